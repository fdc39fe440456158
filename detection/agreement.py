"""How far two runs of a detector agree, detection by detection. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from detection.metrics.voc import pairwise_iou

COUNTED_SCORE = 0.05
SAME_IOU = 0.99
SAME_SCORE = 1e-3
SAME_MASK = 0.98


@dataclass(frozen=True)
class Agreement:
    """Detections with a score of at least 0.05 that have a counterpart.

    A counterpart has the same class, IoU > 0.99, a score within 1e-3 and, where both sides have masks, mask IoU > 0.98.

    Attributes:
        counted: detections of both sides together.
        met: those with a counterpart.
        missing: those of the first side without.
        extra: those of the second side without.
    """

    counted: int
    met: int
    missing: int
    extra: int

    @property
    def rate(self) -> float:
        """The share that agrees; 1 where nothing was detected."""
        return self.met / self.counted if self.counted else 1.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.counted + other.counted,
            self.met + other.met,
            self.missing + other.missing,
            self.extra + other.extra,
        )


def agreement(
    first: Sequence[Detections], second: Sequence[Detections], tolerance: float = SAME_SCORE, overlap: float = SAME_IOU
) -> Agreement:
    """Compare the detections of the same images.

    A detection counts if its score reaches 0.05 on its own side; its counterpart may lie just below.

    Args:
        first, second: detections of each image.
        tolerance: of scores.
        overlap: IoU above which two boxes are the same; masks need 0.98, or as much if that is less.
    """
    total = Agreement(0, 0, 0, 0)
    for a, b in zip(first, second, strict=True):
        missing, counted_a = _unmet(a, b, tolerance, overlap)
        extra, counted_b = _unmet(b, a, tolerance, overlap)
        counted = counted_a + counted_b
        total += Agreement(counted, counted - missing - extra, missing, extra)
    return total


def _unmet(these: Detections, those: Detections, tolerance: float, overlap: float) -> tuple[int, int]:
    """How many of ``these`` have no counterpart, and how many count."""
    boxes, scores, labels = (np.asarray(part) for part in (these.boxes, these.scores, these.labels))
    counted = scores >= COUNTED_SCORE
    others: tuple[Any, ...] = tuple(np.asarray(part) for part in (those.boxes, those.scores, those.labels))
    same = pairwise_iou(boxes[counted].astype(np.float64), others[0].astype(np.float64)) > overlap
    same &= abs(scores[counted][:, None] - others[1][None]) <= tolerance
    same &= labels[counted][:, None] == others[2][None]
    if these.masks is not None and those.masks is not None:
        ours = these.masks[counted]
        for row, column in np.argwhere(same):
            same[row, column] = _mask_iou(ours.dense(row), those.masks.dense(column)) > min(SAME_MASK, overlap)
    return int((~same.any(1)).sum()), int(counted.sum())


def _mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Of two masks [H, W]; 1 where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
