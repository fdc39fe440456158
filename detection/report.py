"""``report.html`` of a detection run: marks, classes, errors, confusion, losses, best and worst pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.images import Picture
from backbones.report import MATRIX_CLASSES, most_confused, plot_confusion
from backbones.running.report import Report, recorded
from detection.data.annotations import DetectionData
from detection.detections import Detections
from detection.drawing import draw_detections
from detection.evaluation import Diagnosis, Evaluation, diagnose, image_quality
from detection.metrics.confusion import BACKGROUND
from detection.metrics.errors import Kind, judge
from detection.plots import KIND_COLORS, class_bars, class_curves, error_bars, precision_recall
from detection.tables import class_cells, class_header, error_rows

SHOWN = 6
READABLE = 480  # smaller pictures are enlarged before labels are written on them
LEGEND = (
    "White: annotated. Green: right. Else wrong: pink a class taken for another, orange a box in the wrong place, "
    "violet both, blue a duplicate, red where nothing is, grey on an ignored object."
)


def write_report(
    path: Path,
    title: str,
    evaluation: Evaluation,
    found: Sequence[Detections],
    data: DetectionData,
    records: Sequence[Mapping[str, Any]] = (),
    facts: Mapping[str, Any] | None = None,
    diagnosis: Diagnosis | None = None,
    plots: bool = True,
) -> None:
    """Write the report.

    Args:
        path: ``report.html``.
        title: of the page.
        evaluation: marks on ``data``.
        found: detections of each image of ``data``.
        data: the evaluated split.
        records: of ``metrics.jsonl``, for curves over iterations.
        facts: how the model was made.
        diagnosis: what goes wrong; found out here if it is not given.
        plots: also as PNG, in the folder ``plots`` beside the report, as run folders have them.
    """
    diagnosis = diagnosis or diagnose(found, data.annotations)
    report = Report(title, path.parent / "plots" if plots else None)
    report.heading(f"Marks on {data.name}, {len(data)} images")
    report.facts({name: value if value >= 0 else "no ground truth" for name, value in evaluation.metrics.items()})
    _add_classes(report, evaluation)
    _add_errors(report, diagnosis, data.annotations.classes)
    marks = ("AP", "AP50", "AP75", "mask_AP")
    report.training(records, recorded(records[:1]), marks, "average precision", "On the validation split")
    thresholds = diagnosis.thresholds
    quality = [image_quality(part, data.annotations, image, thresholds) for image, part in enumerate(found)]
    order = np.argsort(quality, kind="stable").tolist()
    report.heading("Worst pictures")
    report.paragraph(f"{LEGEND} Detections {_scores(thresholds)}.")
    report.pictures([_shown(image, quality, found, data, thresholds, True) for image in order[:SHOWN]], width=320)
    report.heading("Best pictures")
    best = order[::-1][:SHOWN]
    report.pictures([_shown(image, quality, found, data, thresholds, False) for image in best], width=320)
    if facts:
        report.heading("How it was made")
        report.facts(facts)
    report.write(path)


def _add_classes(report: Report, evaluation: Evaluation) -> None:
    classes = evaluation.classes()
    report.heading("Precision, recall and classes")
    with report.row():
        report.plot(precision_recall(evaluation), "All classes, by IoU threshold", "precision_recall.png")
        for number, figure in enumerate(class_curves(evaluation), start=1):
            caption = "Each class at IoU 0.5; a dot where F1 is best"
            report.plot(figure, caption, f"class_curves_{number}.png")
        report.plot(class_bars(classes), "COCO AP of each class", "classes.png")
    report.table(class_header(evaluation), [class_cells(marks) for marks in classes])
    report.paragraph("Score, precision and recall are those of the best F1 at IoU 0.5.")


def _add_errors(report: Report, diagnosis: Diagnosis, classes: Sequence[str]) -> None:
    report.heading("Errors")
    names = (*classes, BACKGROUND)
    with report.row():
        caption = "What AP50 would gain without each kind of error, and how many there are, of whatever score"
        report.plot(error_bars(diagnosis.errors), caption, "errors.png")
        if len(classes) <= MATRIX_CLASSES:
            caption = f"Objects of a row's class detected as a column's, {_scores(diagnosis.thresholds)}"
            report.plot(plot_confusion(diagnosis.confusion, names), caption, "confusion.png")
    report.table(("error", "number", "AP50"), error_rows(diagnosis.errors))
    pairs = most_confused(diagnosis.confusion, names)
    if pairs:
        report.paragraph("Most often confused:")
        report.facts(pairs)


def _scores(thresholds: Sequence[float]) -> str:
    least, most = min(thresholds), max(thresholds)
    return f"with a score of at least {least:.2f}" + (f" to {most:.2f}, by class" if most > least else "")


def _shown(
    image: int,
    quality: Sequence[float],
    found: Sequence[Detections],
    data: DetectionData,
    thresholds: Sequence[float],
    judged: bool,
) -> tuple[Picture, str]:
    """A picture with what was found in it, coloured by class or by the verdict, and its caption."""
    picture, truth = data.pictures[image], data.annotations.of(image)
    sure = found[image].above(thresholds)
    colors = None
    if judged:
        verdicts = judge(replace(sure, masks=None), truth)
        sure, colors = sure[verdicts.order], [KIND_COLORS[Kind(kind)] for kind in verdicts.kinds]
    enlarge = max(1, READABLE // min(picture.shape[:2]))
    classes = data.annotations.classes
    drawn = draw_detections(picture, sure, classes, truth=truth.boxes.tolist(), enlarge=enlarge, colors=colors)
    return drawn, f"{data.annotations.names[image]}: {quality[image]:.0%} right"
