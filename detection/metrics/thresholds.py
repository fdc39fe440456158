"""From which score on to believe a detection: where F1 is best on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.metrics.voc import ClassCurve

DEFAULT = 0.5
"""For classes of which nothing is known."""


@dataclass(frozen=True)
class OperatingPoint:
    """One class at one score threshold.

    Attributes:
        threshold: detections with at least this score are kept.
        f1, precision, recall: of what is kept; 0 where nothing right is found, -1 for a class without objects.
    """

    threshold: float
    f1: float
    precision: float
    recall: float


def best_point(curve: ClassCurve) -> OperatingPoint:
    """The threshold of the best F1; of equally good ones the highest.

    It lies halfway between the weakest score that is kept and the next one (or 0), so that rounding of scores, in
    another precision or an exported graph, moves no detection across it. Detections of equal score are kept or left
    together. Without objects, or where none is found, it is 0.5.
    """
    if not curve.objects:
        return OperatingPoint(DEFAULT, -1.0, -1.0, -1.0)
    scores = curve.scores
    last = np.flatnonzero(np.append(scores[1:] < scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    hits = np.rint(curve.recall[last] * curve.objects)
    f1 = 2 * hits / (last + 1 + curve.objects)  # from whole numbers, so that equals are equal
    if not f1.any():
        return OperatingPoint(DEFAULT, 0.0, 0.0, 0.0)
    best = int(f1.argmax())
    following = float(scores[last[best + 1]]) if best + 1 < len(last) else 0.0
    chosen = int(last[best])
    threshold = (float(scores[chosen]) + following) / 2
    return OperatingPoint(threshold, float(f1[best]), float(curve.precision[chosen]), float(curve.recall[chosen]))


def best_thresholds(curves: Sequence[ClassCurve]) -> tuple[float, ...]:
    """The score threshold of each class, from VOC's curves on validation data."""
    return tuple(best_point(curve).threshold for curve in curves)
