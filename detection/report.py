"""``report.html`` of a detection run: losses, precision and recall, classes, best and worst pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.images import Picture
from backbones.running.report import Report, new_figure, plot_records
from detection.data.annotations import DetectionData
from detection.detections import Detections
from detection.drawing import draw_detections
from detection.evaluation import Evaluation, image_quality
from detection.metrics.coco import RECALLS, THRESHOLDS

SHOWN = 6
SHOWN_SCORE = 0.5
READABLE = 480  # smaller pictures are enlarged before labels are written on them


def write_report(
    path: Path,
    title: str,
    evaluation: Evaluation,
    found: Sequence[Detections],
    data: DetectionData,
    records: Sequence[Mapping[str, Any]] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write the report, and its plots as PNG in the folder ``plots`` beside it.

    Args:
        path: ``report.html``.
        title: of the page.
        evaluation: marks on ``data``.
        found: detections of each image of ``data``.
        data: the evaluated split.
        records: of ``metrics.jsonl``, for curves over iterations.
        facts: how the model was made.
    """
    plots = path.parent / "plots"
    report = Report(title)
    report.heading(f"Marks on {data.name}, {len(data)} images")
    report.facts({name: value if value >= 0 else "no ground truth" for name, value in evaluation.metrics.items()})
    report.heading("Precision, recall and classes")
    with report.row():
        report.plot(_precision_recall(evaluation), "All classes, by IoU threshold", plots / "precision_recall.png")
        report.plot(_class_bars(evaluation.per_class), "COCO AP of each class", plots / "classes.png")
    if records:
        report.heading("Training")
        with report.row():
            _add_curves(report, records, plots)
    quality = [image_quality(detections, data.annotations, image) for image, detections in enumerate(found)]
    order = np.argsort(quality, kind="stable").tolist()
    report.heading("Worst pictures")
    report.paragraph(f"White: annotated. Coloured: detected with a score of at least {SHOWN_SCORE}.")
    report.pictures(_shown(order[:SHOWN], quality, found, data), width=320)
    report.heading("Best pictures")
    report.pictures(_shown(order[::-1][:SHOWN], quality, found, data), width=320)
    if facts:
        report.heading("How it was made")
        report.facts(facts)
    report.write(path)


def _add_curves(report: Report, records: Sequence[Mapping[str, Any]], plots: Path) -> None:
    losses = [name for name in records[0] if name not in ("step", "time", "learning_rate")]
    report.plot(plot_records(records, losses, "losses"), "Means between log lines", plots / "losses.png")
    precision = plot_records(records, ["AP", "AP50", "AP75"], "average precision")
    report.plot(precision, "On the validation split", plots / "average_precision.png")
    report.plot(plot_records(records, ["learning_rate"], "learning rate"), "", plots / "learning_rate.png")


def _shown(
    images: Sequence[int], quality: Sequence[float], found: Sequence[Detections], data: DetectionData
) -> list[tuple[Picture, str]]:
    drawn = []
    for image in images:
        picture = data.pictures[image]
        picture = draw_detections(
            picture,
            found[image].above(SHOWN_SCORE),
            data.annotations.classes,
            truth=data.annotations.of(image).boxes.tolist(),
            enlarge=max(1, READABLE // min(picture.shape[:2])),
        )
        drawn.append((picture, f"{data.annotations.names[image]}: {quality[image]:.0%} right"))
    return drawn


def _precision_recall(evaluation: Evaluation) -> Any:
    figure, axis = new_figure(6, 3.6)
    for threshold in (0.5, 0.75, 0.9):
        index = int(np.argmin(abs(THRESHOLDS - threshold)))
        precision = evaluation.coco.precision[index]
        counted = precision[:, (precision > -1).any(0)]
        if counted.size:
            axis.plot(RECALLS, counted.mean(1), label=f"IoU {threshold}", linewidth=1.5)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axis.legend(frameon=False)
    return figure


def _class_bars(per_class: Mapping[str, float]) -> Any:
    names, values = list(per_class), [max(0.0, value) for value in per_class.values()]
    figure, axis = new_figure(6, 0.6 + 0.22 * len(names))
    axis.barh(names[::-1], values[::-1], color="#4a7fb5")
    axis.set(xlim=(0, 1), xlabel="AP")
    return figure
