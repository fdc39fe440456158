"""Figures of a detection report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backbones.running.report import new_figure
from detection.drawing import Color
from detection.evaluation import ClassMarks, Evaluation
from detection.metrics.coco import RECALLS, THRESHOLDS
from detection.metrics.errors import ERRORS, ErrorBreakdown, Kind

CURVES = 10
"""In one figure; more could not be told apart."""
_BAR = "#4a7fb5"
KIND_COLORS: Mapping[Kind, Color] = {
    Kind.EXCUSED: (150, 150, 150),
    Kind.RIGHT: (60, 190, 90),
    Kind.CLASSIFICATION: (214, 70, 200),
    Kind.LOCALISATION: (250, 165, 20),
    Kind.BOTH: (140, 100, 240),
    Kind.DUPLICATE: (50, 150, 250),
    Kind.BACKGROUND: (235, 60, 50),
    Kind.MISSED: (255, 255, 255),
}


def precision_recall(evaluation: Evaluation) -> Any:
    """The mean over classes of precision at each recall, at three IoU thresholds."""
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


def class_curves(evaluation: Evaluation) -> list[Any]:
    """Precision and recall of each class at IoU 0.5, the best classes first, at most ten in a figure."""
    rows = zip(evaluation.classes(), evaluation.curves, strict=True)
    there = sorted((pair for pair in rows if pair[0].objects), key=lambda pair: -pair[0].ap50)
    figures = []
    for first in range(0, len(there), CURVES):
        figure, axis = new_figure(6, 3.6)
        for marks, curve in there[first : first + CURVES]:
            (line,) = axis.plot(curve.recall, curve.precision, label=f"{marks.name}  {marks.ap50:.3f}", linewidth=1.2)
            if marks.best.f1 > 0:
                axis.plot(marks.best.recall, marks.best.precision, "o", color=line.get_color(), markersize=5)
        axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
        axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), title="class, AP50")
        figures.append(figure)
    return figures


def class_bars(classes: Sequence[ClassMarks]) -> Any:
    """COCO's AP of each class that has objects, of boxes and of masks, the best first."""
    there = sorted((marks for marks in classes if marks.objects), key=lambda marks: marks.ap)
    figure, axis = new_figure(6, 0.9 + 0.24 * len(there))
    places = np.arange(len(there))
    masked = any(marks.mask_ap is not None for marks in there)
    height = 0.38 if masked else 0.7
    axis.barh(places + (height / 2 if masked else 0), [marks.ap for marks in there], height, color=_BAR, label="boxes")
    if masked:
        values = [max(marks.mask_ap or 0.0, 0.0) for marks in there]
        axis.barh(places - height / 2, values, height, color="#e0a030", label="masks")
        axis.legend(frameon=False, fontsize=8)
    axis.set_yticks(places, [marks.name for marks in there], fontsize=8)
    axis.set(xlim=(0, 1), xlabel="AP")
    return figure


def error_bars(errors: ErrorBreakdown) -> Any:
    """What AP50 would gain without each kind of error, and how many there are."""
    figure, axis = new_figure(6, 3)
    names = ERRORS[::-1]
    costs = [errors.costs[name] for name in names]
    colors = ["#777777" if name == "missed" else _hex(KIND_COLORS[Kind[name.upper()]]) for name in names]
    bars = axis.barh(names, costs, color=colors)
    axis.bar_label(bars, [f"{errors.counts[name]:,}" for name in names], padding=4, fontsize=8)
    axis.set(xlabel=f"gain of AP50, now {errors.ap50:.3f}", xlim=(min(0.0, *costs), max(0.01, *costs) * 1.2))
    return figure


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
