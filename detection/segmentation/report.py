"""``report.html`` of a segmentation run: losses, classes, confusions, best and worst pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.images import Picture
from backbones.running.report import Report, new_figure, recorded
from detection.segmentation.drawing import draw_labels
from detection.segmentation.evaluation import SegmentationMarks, SegmentEach
from detection.segmentation.labelled_images import SegmentationData

SHOWN = 6
READABLE = 480  # smaller pictures are enlarged before names are written on them


def write_report(
    path: Path,
    title: str,
    marks: SegmentationMarks,
    segment_each: SegmentEach,
    data: SegmentationData,
    records: Sequence[Mapping[str, Any]] = (),
    facts: Mapping[str, Any] | None = None,
    plots: bool = True,
) -> None:
    """Write the report.

    Args:
        path: ``report.html``.
        title: of the page.
        marks: on ``data``.
        segment_each: the model, asked once more for the pictures that are shown.
        data: the evaluated split.
        records: of ``metrics.jsonl``, for curves over iterations.
        facts: how the model was made.
        plots: also as PNG, in the folder ``plots`` beside the report, as run folders have them.
    """
    report = Report(title, path.parent / "plots" if plots else None)
    report.heading(f"Marks on {data.images.name}, {len(data)} images")
    report.facts(marks.metrics)
    report.heading("Classes")
    with report.row():
        report.plot(_class_bars(marks.per_class), "Intersection over union", "classes.png")
        report.plot(_confusions(marks), "What becomes of the pixels of each class", "confusion.png")
    losses = [name for name in recorded(records) if name not in marks.metrics]
    report.training(records, losses, list(marks.metrics), "marks", "On the validation split")
    order = np.argsort(marks.image_accuracy, kind="stable").tolist()
    for heading, chosen in (("Worst pictures", order[:SHOWN]), ("Best pictures", order[::-1][:SHOWN])):
        report.heading(heading)
        report.paragraph("Left as labelled, right as found. White is not counted.")
        report.pictures(_shown(chosen, marks, segment_each, data), width=480)
    if facts:
        report.heading("How it was made")
        report.facts(facts)
    report.write(path)


def _shown(
    images: Sequence[int], marks: SegmentationMarks, segment_each: SegmentEach, data: SegmentationData
) -> list[tuple[Picture, str]]:
    found = dict(segment_each((data.images.pictures[image] for image in images), 1))
    shown = []
    for place, image in enumerate(images):
        picture = data.images.pictures[image]
        enlarge = max(1, READABLE // min(picture.shape[:2]))
        both = (data.labels[image], found[place].labels)
        pair = [draw_labels(picture, labels, data.classes, enlarge) for labels in both]
        name = data.images.annotations.names[image]
        shown.append((np.concatenate(pair, 1), f"{name}: {marks.image_accuracy[image]:.0%} of the pixels right"))
    return shown


def _class_bars(per_class: Mapping[str, float]) -> Any:
    names, values = list(per_class), [max(0.0, value) for value in per_class.values()]
    figure, axis = new_figure(6, 0.6 + 0.22 * len(names))
    axis.barh(names[::-1], values[::-1], color="#4a7fb5")
    axis.set(xlim=(0, 1), xlabel="IoU")
    return figure


def _confusions(marks: SegmentationMarks) -> Any:
    """Rows are true classes; each sums to one where the class occurs."""
    shares = marks.confusion / np.maximum(marks.confusion.sum(1, keepdims=True), 1)
    figure, axis = new_figure(6, 5)
    axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    places = range(len(marks.classes))
    axis.set_xticks(places, marks.classes, rotation=90, fontsize=7)
    axis.set_yticks(places, marks.classes, fontsize=7)
    axis.set(xlabel="found", ylabel="labelled")
    axis.grid(False)
    return figure
