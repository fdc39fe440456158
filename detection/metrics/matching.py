"""Which detections of one image find which objects, as COCO counts it at one IoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.data.annotations import Objects
from detection.detections import Detections
from detection.metrics.coco import MOST_DETECTIONS
from detection.metrics.voc import pairwise_iou, share_within

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Matches:
    """D detections of one image, best first, against its G objects.

    Attributes:
        order: [D] which of the given detections each is.
        scores, labels: [D].
        objects: [D] the object that each finds, -1 where it finds none.
        excused: [D] whether it lies on an ignored object of its class: neither right nor wrong.
        overlaps: [D, G] IoU of every pair; 0 with ignored objects.
        same: [D, G] whether their classes are the same.
    """

    order: Integers
    scores: Floats
    labels: Integers
    objects: Integers
    excused: Booleans
    overlaps: Floats
    same: Booleans

    @property
    def wrong(self) -> Booleans:
        """[D] whether a detection is a false positive."""
        return (self.objects < 0) & ~self.excused

    @property
    def found(self) -> Booleans:
        """[G] whether an object is found."""
        found = np.zeros(self.overlaps.shape[1], bool)
        found[self.objects[self.objects >= 0]] = True
        return found


def match(detections: Detections, truth: Objects, threshold: float = 0.5) -> Matches:
    """Match as pycocotools does.

    By falling score, each detection takes the free object of its class that it overlaps most, if the IoU reaches the
    threshold. One that gets none is excused where an ignored object of its class covers that part of it. Of a class
    only the best 100 detections are looked at.

    Args:
        detections: in any order.
        truth: the objects of the same image, labelled alike.
        threshold: IoU, inclusive.
    """
    scores = np.asarray(detections.scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    order = order[_rank_within(np.asarray(detections.labels)[order]) < MOST_DETECTIONS]
    labels = np.asarray(detections.labels, np.int64)[order]
    boxes = np.asarray(detections.boxes, np.float64).reshape(-1, 4)[order]
    same = labels[:, None] == truth.labels[None]
    overlaps = pairwise_iou(boxes, truth.boxes)
    overlaps[:, truth.ignored] = 0
    objects = _take(np.where(same & (overlaps >= threshold), overlaps, 0.0))
    excused = np.zeros(len(order), bool)
    if truth.ignored.any():
        covered = share_within(boxes, truth.boxes[truth.ignored]) >= threshold
        excused = (objects < 0) & (covered & same[:, truth.ignored]).any(1)
    return Matches(order, scores[order], labels, objects, excused, overlaps, same)


def _take(allowed: Floats) -> Integers:
    """[D, G] overlaps, 0 where a pair may not meet -> [D] the object that each row in turn takes, or -1."""
    taken = np.full(len(allowed), -1, np.int64)
    last = allowed.shape[1] - 1
    for row in np.flatnonzero(allowed.any(1)):
        best = last - int(allowed[row, ::-1].argmax())  # of equal ones the last, as in pycocotools
        if allowed[row, best] > 0:
            taken[row] = best
            allowed[:, best] = 0
    return taken


def _rank_within(labels: Integers) -> Integers:
    """The place of each detection among those of its class."""
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(grouped, grouped)
    return ranks
