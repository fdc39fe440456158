"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detection.data.annotations import Annotations, Objects
from detection.detections import Detections
from detection.metrics.voc import pairwise_iou, share_within

BACKGROUND = "background"
Integers = NDArray[np.int64]


def confusion_matrix(
    found: Sequence[Detections],
    annotations: Annotations,
    thresholds: float | Sequence[float] = 0.5,
    iou: float = 0.5,
) -> Integers:
    """Objects by their class and by what they were detected as.

    Of each image the pairs of an object and a detection that overlap enough are joined, each object and each
    detection once: those of the same class first, then the others, the larger overlap before the smaller.

    Args:
        found: detections of each image, labelled as the annotations are.
        annotations: the objects; detections that lie on an ignored one of their class by half are not counted.
        thresholds: least score, for all classes or for each.
        iou: least overlap, inclusive.

    Returns:
        [K + 1, K + 1]: rows are the objects' classes, columns the detections'. The last row is background that was
        detected as something, the last column objects that were not detected.
    """
    classes = len(annotations.classes)
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    for image, detections in enumerate(found):
        rows, columns = _pairs(replace(detections, masks=None).above(thresholds), annotations.of(image), classes, iou)
        np.add.at(counts, (rows, columns), 1)
    return counts


def _pairs(detections: Detections, truth: Objects, background: int, iou: float) -> tuple[Integers, Integers]:
    """(class of the object, class of the detection) for all of one image; ``background`` where there is no other."""
    labels = np.asarray(detections.labels, np.int64)
    boxes = np.asarray(detections.boxes, np.float64).reshape(-1, 4)
    objects = np.flatnonzero(~truth.ignored)
    free, unmet = np.ones(len(labels), bool), np.ones(len(objects), bool)
    overlaps = pairwise_iou(boxes, truth.boxes[objects])
    same = labels[:, None] == truth.labels[objects][None]
    detection, other = np.nonzero(overlaps >= iou)
    joined: list[tuple[int, int]] = []
    for place in np.lexsort((-overlaps[detection, other], ~same[detection, other])).tolist():
        d, o = detection[place], other[place]
        if free[d] and unmet[o]:
            free[d] = unmet[o] = False
            joined.append((int(truth.labels[objects[o]]), int(labels[d])))
    regions = labels[:, None] == truth.labels[truth.ignored][None]
    excused = (regions & (share_within(boxes, truth.boxes[truth.ignored]) >= iou)).any(1)
    strays, lost = labels[free & ~excused], truth.labels[objects[unmet]]
    rows = [row for row, _ in joined] + [background] * len(strays) + lost.tolist()
    columns = [column for _, column in joined] + strays.tolist() + [background] * len(lost)
    return np.array(rows, np.int64), np.array(columns, np.int64)
