"""Average precision of PASCAL VOC: the 11-point form of VOC 2007, and the area under the curve since 2010."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.data.annotations import Annotations, Objects
from detection.detections import Detections

Floats = NDArray[np.float64]
_NOTHING = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool)


@dataclass(frozen=True)
class ClassCurve:
    """Precision and recall of one class, by falling score.

    Attributes:
        scores, recall, precision: [D] each.
        objects: how many there are to find, difficult ones left out.
    """

    scores: Floats
    recall: Floats
    precision: Floats
    objects: int

    @property
    def ap_area(self) -> float:
        """Area under the curve made monotone; NaN for a class without objects."""
        return area_ap(self.recall, self.precision) if self.objects else float("nan")

    @property
    def ap_11_point(self) -> float:
        """Mean of the best precision at recall 0, 0.1, ..., 1; NaN for a class without objects."""
        return eleven_point_ap(self.recall, self.precision) if self.objects else float("nan")


def area_ap(recall: Floats, precision: Floats) -> float:
    """The area under the curve, precision being the best at this recall or beyond."""
    r = np.concatenate(([0.0], recall, [1.0]))
    p = np.concatenate(([0.0], precision, [0.0]))
    p = np.maximum.accumulate(p[::-1])[::-1]
    steps = np.flatnonzero(r[1:] != r[:-1])
    return float(((r[steps + 1] - r[steps]) * p[steps + 1]).sum())


def eleven_point_ap(recall: Floats, precision: Floats) -> float:
    """The mean over recall 0, 0.1, ..., 1 of the best precision at this recall or beyond."""
    best = [precision[recall >= point].max(initial=0.0) for point in np.linspace(0, 1, 11)]
    return float(np.mean(best))


def evaluate_voc(annotations: Annotations, found: Sequence[Detections], threshold: float = 0.5) -> list[ClassCurve]:
    """The curve of each class.

    Detections are taken by falling score; each claims the object of its image that it overlaps most. It is right
    if the overlap reaches the threshold and the object is not claimed yet, not counted at all if the object is
    difficult, and wrong otherwise (the VOC development kit).

    Args:
        annotations: the objects; ``ignored`` means difficult.
        found: detections of each image.
        threshold: IoU, inclusive.
    """
    parts = [_judge(annotations.of(image), detections, threshold) for image, detections in enumerate(found)]
    scores, labels, right = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else _NOTHING
    order = np.lexsort((-scores, labels))
    scores, labels, right = scores[order], labels[order], right[order]
    edges = np.searchsorted(labels, np.arange(len(annotations.classes) + 1))
    wanted = annotations.objects.labels[~annotations.objects.ignored]
    counts = np.bincount(wanted, minlength=len(annotations.classes)).tolist()
    curves = []
    for first, last, objects in zip(edges[:-1], edges[1:], counts, strict=True):
        hits = np.cumsum(right[first:last])
        precision = hits / np.arange(1, last - first + 1)
        curves.append(ClassCurve(scores[first:last], hits / max(objects, 1), precision, objects))
    return curves


def _judge(
    truth: Objects, detections: Detections, threshold: float
) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Score, label and whether it is right, of those detections of one image that count; best first."""
    scores = np.asarray(detections.scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], np.asarray(detections.labels, np.int64)[order]
    right = np.zeros(len(order), bool)
    if not len(order) or not len(truth.labels):
        return scores, labels, right
    overlaps = pairwise_iou(np.asarray(detections.boxes, np.float64)[order], truth.boxes)
    overlaps[labels[:, None] != truth.labels[None]] = -1
    best = overlaps.argmax(1)
    near = overlaps.max(1) >= threshold
    claims = np.flatnonzero(near)
    right[claims[np.unique(best[claims], return_index=True)[1]]] = True  # of each object's claims the first
    counted = ~(near & truth.ignored[best])
    return scores[counted], labels[counted], right[counted]


def pairwise_iou(a: Floats, b: Floats) -> Floats:
    """[N, 4], [M, 4] half-open -> [N, M]."""
    common = _common(a, b)
    union = _areas(a)[:, None] + _areas(b)[None] - common
    return np.asarray(common / np.maximum(union, 1e-12))


def share_within(a: Floats, b: Floats) -> Floats:
    """[N, 4], [M, 4] half-open -> [N, M]: which part of each of ``a`` lies in each of ``b``."""
    return np.asarray(_common(a, b) / np.maximum(_areas(a)[:, None], 1e-12))


def _common(a: Floats, b: Floats) -> Floats:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(-1))


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(-1))
