"""The error breakdown against a slow obvious version, pycocotools on data mended by hand, and cases made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detection.data.annotations import AnnotationBuilder, Annotations, Objects
from detection.detections import Detections
from detection.metrics.coco import as_coco_results, as_coco_truth, evaluate_coco
from detection.metrics.confusion import confusion_matrix
from detection.metrics.errors import ERRORS, Kind, break_down, judge
from tests.detection.scoring_cases import NOTHING, made_case, made_masks

Box = tuple[float, float, float, float]


def area(box: Box) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def common(a: Box, b: Box) -> float:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a: Box, b: Box) -> float:
    return common(a, b) / (area(a) + area(b) - common(a, b))


def slow_verdicts(found: Detections, truth: Objects) -> tuple[list[tuple[Kind, int]], list[int]]:
    """(kind, object) of each detection by falling score, and the missed objects, by the words of ``Kind``."""
    real = [n for n in range(len(truth.labels)) if not truth.ignored[n]]
    taken: set[int] = set()
    verdicts: list[tuple[Kind, int]] = []
    for d in sorted(range(len(found)), key=lambda d: -found.scores[d]):
        box, label = found.boxes[d], found.labels[d]
        own = [n for n in real if truth.labels[n] == label]
        other = [n for n in real if truth.labels[n] != label]
        free = [n for n in own if n not in taken and iou(box, truth.boxes[n]) >= 0.5]
        if free:
            best = max(free, key=lambda n: iou(box, truth.boxes[n]))
            taken.add(best)
            verdicts.append((Kind.RIGHT, best))
            continue
        regions = [n for n in range(len(truth.labels)) if truth.ignored[n] and truth.labels[n] == label]
        if any(common(box, truth.boxes[n]) / area(box) >= 0.5 for n in regions):
            verdicts.append((Kind.EXCUSED, -1))
            continue
        near_own = max(own, key=lambda n: iou(box, truth.boxes[n]), default=-1)
        near_other = max(other, key=lambda n: iou(box, truth.boxes[n]), default=-1)
        own_iou = iou(box, truth.boxes[near_own]) if own else 0
        other_iou = iou(box, truth.boxes[near_other]) if other else 0
        if 0.1 <= own_iou < 0.5:
            verdicts.append((Kind.LOCALISATION, near_own))
        elif other_iou >= 0.5:
            verdicts.append((Kind.CLASSIFICATION, near_other))
        elif own_iou >= 0.5:
            verdicts.append((Kind.DUPLICATE, -1))
        elif max(own_iou, other_iou) < 0.1:
            verdicts.append((Kind.BACKGROUND, -1))
        else:
            verdicts.append((Kind.BOTH, -1))
    touched = {number for _, number in verdicts}
    return verdicts, [n for n in real if n not in touched]


@pytest.mark.parametrize("seed", range(8))
def test_verdicts_equal_the_obvious_way(seed: int) -> None:
    annotations, found = made_case(seed, images=30)
    seen = set()
    for image, part in enumerate(found):
        verdicts = judge(part, annotations.of(image))
        expected, missed = slow_verdicts(part, annotations.of(image))
        assert list(zip(verdicts.kinds.tolist(), verdicts.objects.tolist(), strict=True)) == expected
        assert np.flatnonzero(verdicts.missed).tolist() == missed
        assert verdicts.scores.tolist() == part.scores[verdicts.order].tolist()
        seen |= set(verdicts.kinds.tolist())
    assert len(seen) >= 6


def mended_by_hand(annotations: Annotations, found: list[Detections], kind: str) -> tuple[dict, list[dict]]:
    """COCO's truth and results with the errors of a kind mended one by one."""
    results, mended, dropped = [], set(), set()
    for image, part in enumerate(found):
        truth, start = annotations.of(image), int(annotations.first[image])
        order = np.argsort(-part.scores, kind="stable")
        verdicts, missed = slow_verdicts(part, truth)
        right = {number for verdict, number in verdicts if verdict == Kind.RIGHT}
        if kind == "missed":
            dropped |= {start + number for number in missed}
        if kind == "false negatives":
            dropped |= {start + n for n in range(len(truth.labels)) if n not in right and not truth.ignored[n]}
        for (verdict, number), item in zip(verdicts, as_coco_results([part[order]], [image], range(3)), strict=True):
            item = {**item, "image_id": int(annotations.image_ids[image])}
            if kind == "false positives" and verdict > 0:
                continue
            if verdict > 0 and verdict.name.lower() == kind:
                if kind not in ("classification", "localisation") or number in right or start + number in mended:
                    continue
                mended.add(start + number)
                x1, y1, x2, y2 = truth.boxes[number]
                item |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": int(truth.labels[number])}
            results.append({**item, "category_id": annotations.category_ids[item["category_id"]]})
    coco = as_coco_truth(annotations)
    coco["annotations"] = [item for n, item in enumerate(coco["annotations"]) if n not in dropped]
    return coco, results


@pytest.mark.parametrize("kind", [*ERRORS, "false positives", "false negatives"])
@pytest.mark.parametrize("seed", range(2))
def test_costs_are_what_mending_by_hand_gains(seed: int, kind: str) -> None:
    annotations, found = made_case(seed, images=20)
    breakdown = break_down(found, annotations)
    truth = as_coco_truth(annotations)
    ids = annotations.image_ids.tolist()
    ap50 = evaluate_coco(truth, as_coco_results(found, ids, annotations.category_ids)).summary["AP50"]
    assert breakdown.ap50 == pytest.approx(ap50, abs=1e-9)
    mended = evaluate_coco(*mended_by_hand(annotations, found, kind)).summary["AP50"]
    assert breakdown.costs[kind] == pytest.approx(mended - ap50, abs=1e-9)


def one_image(objects: list[tuple[Box, int]], *detections: tuple[Box, float, int]) -> tuple[Annotations, list]:
    builder = AnnotationBuilder(("a", "b"))
    for box, label in objects:
        builder.add_object(box, label)
    builder.add_image("x", 1, (200, 200))
    boxes, scores, labels = zip(*detections, strict=True) if detections else ((), (), ())
    found = Detections(np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, np.int64))
    return builder.build(), [found]


HERE, HALF, EDGE, FAR = (0, 0, 100, 100), (0, 0, 100, 40), (0, 0, 100, 5), (150, 150, 190, 190)


@pytest.mark.parametrize(
    ("objects", "detections", "counts"),
    [
        ([(HERE, 0)], [(HERE, 0.9, 0)], {}),
        ([(HERE, 0)], [(HERE, 0.9, 1)], {"classification": 1}),
        ([(HERE, 0)], [(HALF, 0.9, 0)], {"localisation": 1}),
        ([(HERE, 0)], [(HALF, 0.9, 1)], {"both": 1, "missed": 1}),
        ([(HERE, 0)], [(HERE, 0.9, 0), (HERE, 0.8, 0)], {"duplicate": 1}),
        ([(HERE, 0)], [(FAR, 0.9, 0)], {"background": 1, "missed": 1}),
        ([(HERE, 0)], [(EDGE, 0.9, 0)], {"background": 1, "missed": 1}),
        ([(HERE, 0)], [], {"missed": 1}),
        ([], [(HERE, 0.9, 0)], {"background": 1}),
        ([(HERE, 0), (HERE, 1)], [(HERE, 0.9, 0), (HERE, 0.8, 0)], {"classification": 1}),
    ],
)
def test_each_kind_by_hand(objects: list, detections: list, counts: dict[str, int]) -> None:
    breakdown = break_down(*reversed(one_image(objects, *detections)))
    assert {name: breakdown.counts[name] for name in ERRORS if breakdown.counts[name]} == counts


def test_costs_by_hand() -> None:
    annotations, found = one_image([(HERE, 0)], (FAR, 0.9, 0), (HERE, 0.8, 0))
    breakdown = break_down(found, annotations)
    assert breakdown.ap50 == pytest.approx(0.5)
    assert {name: cost for name, cost in breakdown.costs.items() if cost} == pytest.approx(
        {"background": 0.5, "false positives": 0.5}
    )
    annotations, found = one_image([(HERE, 0), (FAR, 1)], (HERE, 0.9, 1), (HERE, 0.8, 1))
    breakdown = break_down(found, annotations)
    assert breakdown.ap50 == 0
    # One of the two becomes right about class 0, the other goes; class 1 is left without objects where they are taken.
    assert breakdown.costs["classification"] == pytest.approx(0.5)
    assert (breakdown.counts["classification"], breakdown.counts["missed"]) == (2, 1)


def test_nothing_at_all() -> None:
    breakdown = break_down([], AnnotationBuilder(("a",)).build())
    assert (breakdown.ap50, set(breakdown.counts.values()), set(breakdown.costs.values())) == (0, {0}, {0})


def test_only_the_best_hundred_of_a_class_count() -> None:
    annotations, _ = one_image([(HERE, 0)])
    boxes = np.array([FAR] * 101 + [HERE] * 2, float)
    labels = np.array([0] * 102 + [1])
    scores = np.linspace(0.9, 0.1, 103)
    found = [Detections(boxes, scores, labels)]
    breakdown = break_down(found, annotations)
    assert (breakdown.ap50, breakdown.counts["background"]) == (0, 100)
    assert evaluate_coco(as_coco_truth(annotations), as_coco_results(found, [1], (1, 2))).summary["AP50"] == 0


def test_masks_are_not_unpacked() -> None:
    class Untouchable:
        pass

    annotations, found = made_masks(0)
    bare = break_down([replace(part, masks=None) for part in found], annotations)
    assert break_down([replace(part, masks=Untouchable()) for part in found], annotations) == bare
    assert confusion_matrix([replace(part, masks=Untouchable()) for part in found], annotations).sum() > 0


def test_confusion_by_hand() -> None:
    builder = AnnotationBuilder(("a", "b"))
    builder.add_object(HERE, 0)
    builder.add_object((0, 0, 100, 90), 1)
    builder.add_object((120, 0, 160, 40), 1)
    builder.add_object((120, 100, 160, 140), 0)
    builder.add_object((0, 150, 100, 200), 0, ignored=True)
    builder.add_image("x", 1, (200, 200))
    boxes = np.array([
        (0, 0, 100, 92),  # nearer to b, but there is only one a for an a
        (0, 0, 100, 95),  # b
        (121, 0, 161, 40),  # an object of b taken for a
        (0, 150, 50, 200),  # on an ignored a
        (0, 150, 50, 200),  # the same as b: something where nothing is
        HERE,  # below the threshold
    ], float)  # fmt: skip
    found = Detections(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), np.array([0, 1, 0, 0, 1, 0]))
    expected = [[1, 0, 1], [1, 1, 0], [0, 1, 0]]
    assert confusion_matrix([found], builder.build()).tolist() == expected
    assert confusion_matrix([found], builder.build(), (0.5, 0.5)).tolist() == expected
    assert confusion_matrix([found], builder.build(), (0.5, 0.85)).tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_confusion_counts_every_object_and_detection_once(seed: int) -> None:
    annotations, found = made_case(seed, images=40)
    matrix = confusion_matrix(found, annotations, 0.3)
    objects = annotations.objects
    assert matrix[:-1].sum(1).tolist() == np.bincount(objects.labels[~objects.ignored], minlength=3).tolist()
    sure = np.concatenate([part.labels[part.scores >= 0.3] for part in found])
    assert (matrix[:, :-1].sum(0) <= np.bincount(sure, minlength=3)).all()  # some lie on ignored objects
    assert matrix[-1, -1] == 0
    clear, found = made_case(seed, images=40, ignored=0)
    sure = np.concatenate([part.labels for part in found])
    assert confusion_matrix(found, clear, 0).sum(0)[:-1].tolist() == np.bincount(sure, minlength=3).tolist()
    assert confusion_matrix([NOTHING] * 40, clear)[:, -1].sum() == len(clear.objects.labels)
