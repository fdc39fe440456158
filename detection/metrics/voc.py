"""Average precision of PASCAL VOC: the 11-point form of VOC 2007, and the area under the curve since 2010."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.data.annotations import Annotations
from detection.detections import Detections

Floats = NDArray[np.float64]


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
    return [_class_curve(annotations, found, label, threshold) for label in range(len(annotations.classes))]


def _class_curve(annotations: Annotations, found: Sequence[Detections], label: int, threshold: float) -> ClassCurve:
    scores, right, counted, objects = [], [], [], 0
    for image, detections in enumerate(found):
        truth = annotations.of(image)
        ours = truth.labels == label
        objects += int((ours & ~truth.ignored).sum())
        chosen = np.asarray(detections.labels) == label
        image_scores = np.asarray(detections.scores, np.float64)[chosen]
        order = np.argsort(-image_scores, kind="stable")
        boxes = np.asarray(detections.boxes, np.float64)[chosen][order]
        image_right, image_counted = _claim(boxes, truth.boxes[ours], truth.ignored[ours], threshold)
        scores.append(image_scores[order])
        right.append(image_right)
        counted.append(image_counted)
    all_scores, all_right = np.concatenate(scores), np.concatenate(right)
    order = np.argsort(-all_scores, kind="stable")
    order = order[np.concatenate(counted)[order]]
    hits = np.cumsum(all_right[order])
    return ClassCurve(all_scores[order], hits / max(objects, 1), hits / np.arange(1, len(order) + 1), objects)


def _claim(
    boxes: Floats, objects: Floats, difficult: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For detections of one image and class, best first: which are right, and which count at all."""
    right, counted = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    if not len(objects):
        return right, counted
    claimed = np.zeros(len(objects), bool)
    overlaps = pairwise_iou(boxes, objects)
    for number, best in enumerate(overlaps.argmax(1)):
        if overlaps[number, best] < threshold:
            continue
        if difficult[best]:
            counted[number] = False
        elif not claimed[best]:
            claimed[best] = right[number] = True
    return right, counted


def pairwise_iou(a: Floats, b: Floats) -> Floats:
    """[N, 4], [M, 4] half-open -> [N, M]."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = (a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1)[None]
    return np.asarray(common / np.maximum(areas - common, 1e-12))
