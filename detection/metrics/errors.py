"""What is wrong with detections, and what each kind of error costs, in the manner of TIDE (Bolya et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from detection.data.annotations import Annotations, Objects
from detection.detections import Detections
from detection.metrics.coco import interpolated_ap
from detection.metrics.matching import match

FOREGROUND, BACKGROUND = 0.5, 0.1
"""IoU: from here on an object is found; below here nothing is near (section 2.2 of TIDE)."""
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class Kind(IntEnum):
    """The verdict on a detection. Objects are those of its image that are not ignored; own ones are of its class.

    A detection is right if it takes an object as COCO matches them at IoU 0.5 (``matching.match``), and excused on an
    ignored region. What remains is wrong, and the first of these that fits says how:

    - localisation: it overlaps an own object by 0.1 to 0.5;
    - classification: it overlaps another class's object by at least 0.5;
    - duplicate: it overlaps an own object by at least 0.5, which a better-scored detection took;
    - background: it overlaps no object by 0.1;
    - both: it overlaps only other classes' objects, by 0.1 to 0.5.

    An object is missed if no detection takes it, and no error of localisation or classification lies on it.
    """

    EXCUSED = -1
    RIGHT = 0
    CLASSIFICATION = 1
    LOCALISATION = 2
    BOTH = 3
    DUPLICATE = 4
    BACKGROUND = 5
    MISSED = 6


ERRORS = tuple(kind.name.lower() for kind in Kind if kind > 0)
FALSE_POSITIVES, FALSE_NEGATIVES = "false positives", "false negatives"


@dataclass(frozen=True)
class Verdicts:
    """Of D detections of one image, best first, and its G objects.

    Attributes:
        order: [D] which of the given detections each is.
        scores, labels: [D].
        kinds: [D] int8, ``Kind``.
        objects: [D] the object that it takes, or that the error of localisation or classification lies on; else -1.
        found: [G] whether a detection takes the object.
        missed: [G] as ``Kind`` says.
    """

    order: Integers
    scores: Floats
    labels: Integers
    kinds: NDArray[np.int8]
    objects: Integers
    found: Booleans
    missed: Booleans


@dataclass(frozen=True)
class ErrorBreakdown:
    """How often detections err in each way, and what that costs.

    Attributes:
        ap50: COCO's AP at IoU 0.5, of which the costs are reckoned.
        counts: errors of each kind, of whatever score.
        costs: what AP50 would gain if one kind alone were mended, the rest staying (section 2.3 of TIDE).
            Classification and localisation: the detection becomes right about the object it lies on; if that is
            taken, or another error of that kind on it has a better score, it is taken away instead. Both, duplicate,
            background: taken away. Missed: the objects are taken away. Besides these six, ``false positives``:
            everything wrong is taken away; ``false negatives``: all objects not found are taken away. A class whose
            objects are all taken away leaves the mean. (The program ``tidecv`` mends at most one error of an object,
            the better-scored of both kinds, and counts such a class as 0; else its numbers are these.)
    """

    ap50: float
    counts: dict[str, int]
    costs: dict[str, float]


def judge(detections: Detections, truth: Objects) -> Verdicts:
    """The verdicts on the detections of one image."""
    matches = match(detections, truth, FOREGROUND)
    kinds = np.where(matches.excused, Kind.EXCUSED, Kind.RIGHT).astype(np.int8)
    objects = matches.objects.copy()
    counted = ~truth.ignored
    wrong = np.flatnonzero(matches.wrong)
    if len(wrong) and counted.any():
        overlaps, same = matches.overlaps[wrong], matches.same[wrong]
        own, other = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
        best_own, best_other = own.max(1), other.max(1)
        conditions = [
            (best_own >= BACKGROUND) & (best_own < FOREGROUND),
            best_other >= FOREGROUND,
            best_own >= FOREGROUND,
            best_other < BACKGROUND,
        ]
        names = [Kind.LOCALISATION, Kind.CLASSIFICATION, Kind.DUPLICATE, Kind.BACKGROUND]
        kinds[wrong] = np.select(conditions, names, Kind.BOTH)
        objects[wrong] = np.select(conditions[:2], [own.argmax(1), other.argmax(1)], -1)
    else:
        kinds[wrong] = Kind.BACKGROUND
    touched = np.zeros(len(counted), bool)
    touched[objects[objects >= 0]] = True
    missed = counted & ~touched
    return Verdicts(matches.order, matches.scores, matches.labels, kinds, objects, matches.found, missed)


def break_down(found: Sequence[Detections], annotations: Annotations) -> ErrorBreakdown:
    """Count the errors of a data set, and say what each kind costs.

    Args:
        found: detections of each image, labelled as the annotations are; masks are not looked at.
        annotations: the objects.
    """
    rows = _collect(found, annotations)
    wanted = ~annotations.objects.ignored
    ap50 = rows.average_precision(rows.labels, rows.kinds == Kind.RIGHT, rows.kinds >= 0, wanted)
    mended = {kind: rows.mended(Kind[kind.upper()], wanted) for kind in ERRORS}
    right = rows.kinds == Kind.RIGHT
    mended[FALSE_POSITIVES] = rows.average_precision(rows.labels, right, right, wanted)
    mended[FALSE_NEGATIVES] = rows.average_precision(rows.labels, right, rows.kinds >= 0, wanted & rows.found)
    counts = {kind: int((rows.kinds == Kind[kind.upper()]).sum()) for kind in ERRORS}
    counts["missed"] = int(rows.missed.sum())
    counts[FALSE_POSITIVES] = int((rows.kinds > 0).sum())
    counts[FALSE_NEGATIVES] = int((wanted & ~rows.found).sum())
    return ErrorBreakdown(ap50, counts, {kind: value - ap50 for kind, value in mended.items()})


@dataclass(frozen=True)
class _Rows:
    """The verdicts of a data set in the order in which pycocotools breaks ties; ``objects`` counts through it."""

    scores: Floats
    labels: Integers
    kinds: NDArray[np.int8]
    objects: Integers
    found: Booleans
    missed: Booleans
    classes: Integers

    def mended(self, kind: Kind, wanted: Booleans) -> float:
        """AP50 without the errors of a kind."""
        right, counted = self.kinds == Kind.RIGHT, self.kinds >= 0
        if kind == Kind.MISSED:
            return self.average_precision(self.labels, right, counted, wanted & ~self.missed)
        labels, right, counted = self.labels.copy(), right.copy(), counted & (self.kinds != kind)
        if kind in (Kind.CLASSIFICATION, Kind.LOCALISATION):
            errors = np.flatnonzero(self.kinds == kind)
            errors = errors[~self.found[self.objects[errors]]]
            mended = errors[np.unique(self.objects[errors], return_index=True)[1]]  # rows are by score in each image
            labels[mended] = self.classes[self.objects[mended]]
            right[mended] = counted[mended] = True
        return self.average_precision(labels, right, counted, wanted)

    def average_precision(self, labels: Integers, right: Booleans, counted: Booleans, wanted: Booleans) -> float:
        """COCO's AP50 over the classes that have objects; 0 where none has."""
        objects = np.bincount(self.classes[wanted], minlength=1)
        order = np.flatnonzero(counted)
        order = order[np.lexsort((-self.scores[order], labels[order]))]
        edges = np.searchsorted(labels[order], np.arange(len(objects) + 1))
        values = [
            interpolated_ap(right[order[edges[label] : edges[label + 1]]], int(objects[label]))
            for label in np.flatnonzero(objects)
        ]
        return float(np.mean(values)) if values else 0.0


def _collect(found: Sequence[Detections], annotations: Annotations) -> _Rows:
    count = len(annotations.objects.labels)
    all_found, all_missed = np.zeros(count, bool), np.zeros(count, bool)
    parts = []
    for image in np.argsort(annotations.image_ids, kind="stable").tolist():
        verdicts = judge(found[image], annotations.of(image))
        start, stop = annotations.first[image], annotations.first[image + 1]
        all_found[start:stop], all_missed[start:stop] = verdicts.found, verdicts.missed
        objects = np.where(verdicts.objects >= 0, verdicts.objects + start, -1)
        parts.append((verdicts.scores, verdicts.labels, verdicts.kinds, objects))
    if not parts:
        parts.append((np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0, np.int64)))
    scores, labels, kinds, owners = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Rows(scores, labels, kinds, owners, all_found, all_missed, annotations.objects.labels)
