"""Marks as text: tables that fit 100 columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from detection.evaluation import ClassMarks, Evaluation
from detection.metrics.coco import NAMES
from detection.metrics.errors import ERRORS, ErrorBreakdown

NONE = "none"
_LONGEST_NAME = 24
CLASS_HEADER = ("class", "objects", "AP", "AP50", "mask AP", "score", "precision", "recall", "F1")


def plain_lines(metrics: Mapping[str, float]) -> list[str]:
    """A line for each number."""
    return [
        f"{name:<14} {value:.4f}" if value >= 0 else f"{name:<14} no ground truth" for name, value in metrics.items()
    ]


def as_json(evaluation: Evaluation, errors: ErrorBreakdown) -> dict[str, Any]:
    """All marks as plain values: metrics, AP of each class, each class at its best F1, and errors."""
    classes = {
        marks.name: {
            "objects": marks.objects,
            "AP": marks.ap,
            "AP50": marks.ap50,
            **({} if marks.mask_ap is None else {"mask_AP": marks.mask_ap}),
            **dataclasses.asdict(marks.best),
        }
        for marks in evaluation.classes()
    }
    costs = {name: {"number": errors.counts[name], "AP50": cost} for name, cost in errors.costs.items()}
    return {**evaluation.metrics, "per_class": evaluation.per_class, "classes": classes, "errors": costs}


def describe(evaluation: Evaluation, errors: ErrorBreakdown) -> list[str]:
    """All marks: of the whole, of each class, and what errors cost."""
    lines = [*_whole(evaluation.metrics), "", *_classes(evaluation), "", *_errors(errors)]
    if any(NONE in line.split() for line in lines):
        lines += ["", f"{NONE}: no ground truth of that kind in this data (-1 in files)"]
    return lines


def class_cells(marks: ClassMarks) -> list[str]:
    """A class as the cells under ``CLASS_HEADER``."""
    best = marks.best
    mask_ap = [] if marks.mask_ap is None else [_number(marks.mask_ap)]
    f1 = [_number(value) for value in (best.precision, best.recall, best.f1)]
    return [marks.name, str(marks.objects), _number(marks.ap), _number(marks.ap50), *mask_ap,
            f"{best.threshold:.3f}" if marks.objects else NONE, *f1]  # fmt: skip


def class_header(evaluation: Evaluation) -> list[str]:
    """``CLASS_HEADER``, without the masks where there are none."""
    return [name for name in CLASS_HEADER if evaluation.masks is not None or name != "mask AP"]


def error_rows(errors: ErrorBreakdown) -> list[tuple[str, str, str]]:
    """(kind, how many, AP50 it costs)."""
    return [
        (name if name in ERRORS else f"all {name}", str(errors.counts[name]), f"{cost:.4f}")
        for name, cost in errors.costs.items()
    ]


def _whole(metrics: Mapping[str, float]) -> list[str]:
    masked = "mask_AP" in metrics
    rows = [["", "boxes", "masks"][: 3 if masked else 2]]
    for name, value in metrics.items():
        if name.startswith("mask_"):
            continue
        row = [name, _number(value)]
        if masked and name in NAMES:
            row.append(_number(metrics[f"mask_{name}"]))
        rows.append(row)
    return _aligned(rows)


def _classes(evaluation: Evaluation) -> list[str]:
    rows = [[cells[0][:_LONGEST_NAME], *cells[1:]] for cells in map(class_cells, evaluation.classes())]
    return ["Score, precision and recall are those of the best F1 at IoU 0.5.",
            *_aligned([class_header(evaluation), *rows])]  # fmt: skip


def _errors(errors: ErrorBreakdown) -> list[str]:
    title = f"What would be gained of AP50 (now {errors.ap50:.4f}) without each kind of error:"
    return [title, *_aligned([("error", "number", "AP50"), *error_rows(errors)])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, the first to the left and the others to the right."""
    widths = [max(len(row[place]) for row in rows if len(row) > place) for place in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:<{width}}" if not place else f"{cell:>{max(width, 7)}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if value >= 0 else NONE
