"""Average precision against pycocotools used directly, a slow obvious VOC, and reference results."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from backbones.errors import InputError
from detection.agreement import agreement
from detection.data.annotations import AnnotationBuilder, Annotations
from detection.data.coco_results import as_detections, load_results
from detection.detections import Detections
from detection.evaluation import score
from detection.masks.run_length import RunLengthMasks, concatenate
from detection.metrics.coco import BACKENDS, NAMES, as_coco_results, as_coco_truth, evaluate_coco, interpolated_ap
from detection.metrics.voc import area_ap, eleven_point_ap, evaluate_voc, pairwise_iou, share_within
from tests.detection.scoring_cases import made_case, made_masks


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each that is installed; by their names, which are their modules'."""
    pytest.importorskip(request.param, reason="needs the extra fast")
    name: str = request.param
    return name


def results_of(annotations: Annotations, found: list[Detections]) -> list[dict]:
    return as_coco_results(found, annotations.image_ids.tolist(), annotations.category_ids)


def direct(truth: dict, results: list[dict], kind: str) -> list[float]:
    """pycocotools as its own examples use it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = truth
        ground.createIndex()
        evaluator = COCOeval(ground, ground.loadRes(results), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return list(evaluator.stats.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_coco_numbers_are_pycocotools_own(seed: int) -> None:
    annotations, found = made_case(seed)
    expected = direct(as_coco_truth(annotations), results_of(annotations, found), "bbox")
    summary = evaluate_coco(as_coco_truth(annotations), results_of(annotations, found)).summary
    assert tuple(summary) == NAMES
    assert list(summary.values()) == expected
    assert 0 < summary["AP"] < 1


@pytest.mark.parametrize("seed", range(3))
def test_mask_numbers_are_pycocotools_own(seed: int, backend: str) -> None:
    annotations, found = made_masks(seed)
    truth = as_coco_truth(annotations)
    owners = np.repeat(np.arange(len(annotations)), np.diff(annotations.first))
    for number, (item, owner) in enumerate(zip(truth["annotations"], owners, strict=True)):
        mask = annotations.objects.masks.dense(number, annotations.size(owner))  # type: ignore[union-attr]
        item["segmentation"] = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    results = [
        {
            "image_id": int(image), "category_id": annotations.category_ids[label], "score": float(score),
            "segmentation": rle.encode(np.asfortranarray(mask.astype(np.uint8))),
        }
        for image, part in zip(annotations.image_ids, found, strict=True)
        for label, score, mask in zip(part.labels, part.scores, np.asarray(part.masks), strict=True)
    ]  # fmt: skip
    expected = direct(truth, results, "segm")
    metrics = score(found, annotations, backend).metrics
    assert [metrics[f"mask_{name}"] for name in NAMES] == expected
    assert metrics["mask_AP"] != metrics["AP"]
    assert 0.2 < metrics["mask_AP50"] < 1


def test_mask_marks_need_masks_on_both_sides() -> None:
    annotations, found = made_masks(0)
    assert score(found, annotations).masks is not None
    bare = [replace(part, masks=None) for part in found]
    assert "mask_AP" not in score(bare, annotations).metrics
    unmasked = replace(annotations, objects=replace(annotations.objects, masks=None))
    assert "mask_AP" not in score(found, unmasked).metrics
    with pytest.raises(InputError, match="some detections have masks"):
        score([*bare[:5], *found[5:]], annotations)
    nothing = [part[:0] for part in found]
    assert score(nothing, annotations).metrics["mask_AP"] == 0


def test_an_object_without_a_mask_is_a_crowd_for_masks_only() -> None:
    builder = AnnotationBuilder(("a",))
    whole = RunLengthMasks.from_dense(np.pad(np.ones((1, 20, 20), bool), ((0, 0), (0, 20), (0, 20))))
    counts = whole.to_compressed_coco()[0]["counts"].encode()
    builder.add_object((0, 0, 20, 20), 0, area=400, mask=counts)
    builder.add_object((20, 20, 40, 40), 0, area=400)
    builder.add_image("x", 1, (40, 40))
    other = RunLengthMasks.from_dense(np.pad(np.ones((1, 20, 20), bool), ((0, 0), (20, 0), (20, 0))))
    boxes = np.array([[0.0, 0, 20, 20], [20, 20, 40, 40]])
    found = Detections(boxes, np.array([0.8, 0.9]), np.zeros(2, int), concatenate([whole, other]))
    metrics = score([found], builder.build()).metrics
    assert (metrics["AP"], metrics["mask_AP"]) == pytest.approx((1, 1))
    metrics = score([found[:1]], builder.build()).metrics
    assert (metrics["mask_AP"], metrics["AP50"]) == pytest.approx((1, 51 / 101))


def test_results_stay_as_they_were() -> None:
    annotations, found = made_masks(1)
    results = results_of(annotations, found)
    before = json.dumps(results)
    for kind in ("bbox", "segm"):
        evaluate_coco(as_coco_truth(annotations, masks=True), results, kind)
    assert json.dumps(results) == before


def test_one_threshold_is_the_mean_over_recall() -> None:
    annotations, found = made_case(4, classes=1, ignored=0)
    curve = evaluate_voc(annotations, found)[0]
    right = np.diff(curve.recall * curve.objects, prepend=0) > 0.5
    best = [curve.precision[curve.recall >= point].max(initial=0) for point in np.linspace(0, 1, 101)]
    assert interpolated_ap(right, curve.objects) == pytest.approx(np.mean(best), abs=1e-9)
    assert interpolated_ap(np.zeros(0, bool), 3) == 0


@pytest.mark.parametrize("seed", range(20))
def test_hotcoco_gives_the_same_bits(seed: int) -> None:
    pytest.importorskip("hotcoco", reason="needs the extra fast")
    annotations, found = made_case(seed)
    one, other = (
        evaluate_coco(as_coco_truth(annotations), results_of(annotations, found), backend=backend)
        for backend in BACKENDS
    )
    assert one.summary == other.summary
    assert one.per_class == other.per_class


def test_no_detections_score_zero(backend: str) -> None:
    annotations, _ = made_case(0)
    summary = evaluate_coco(as_coco_truth(annotations), [], backend=backend).summary
    assert summary["AP"] == 0
    nothing = score([Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))] * 12, annotations)
    assert nothing.metrics["AP"] == nothing.metrics["VOC_mAP"] == 0


def test_wrong_ground_truth_is_refused() -> None:
    annotations, found = made_case(0)
    truth = as_coco_truth(annotations)
    truth["annotations"][0]["id"] = 0
    with pytest.raises(InputError, match="number annotations from 1"):
        evaluate_coco(truth, [])
    with pytest.raises(InputError, match="image 999"):
        evaluate_coco(as_coco_truth(annotations), [{**results_of(annotations, found)[0], "image_id": 999}])


def test_a_missing_backend_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "hotcoco", None)
    annotations, _ = made_case(0)
    with pytest.raises(InputError, match="not installed"):
        evaluate_coco(as_coco_truth(annotations), [], backend="hotcoco")


def obvious_curve(annotations: Annotations, found: list[Detections], label: int) -> list[tuple[float, float]]:
    """(recall, precision) after each counted detection, by the words of the development kit."""
    rows = []
    for image, detections in enumerate(found):
        for box, confidence, its_label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
            if its_label == label:
                rows.append((confidence, image, box))
    rows.sort(key=lambda row: -row[0])
    total = sum(
        1 for image in range(len(annotations)) for own, ignored in
        zip(annotations.of(image).labels, annotations.of(image).ignored, strict=True) if own == label and not ignored
    )  # fmt: skip
    claimed, right, wrong, curve = set(), 0, 0, []
    for _, image, box in rows:
        objects = annotations.of(image)
        best, best_iou = None, -1.0
        for number, (other, own) in enumerate(zip(objects.boxes, objects.labels, strict=True)):
            overlap = float(pairwise_iou(np.array([box]), np.array([other]))[0, 0])
            if own == label and overlap > best_iou:
                best, best_iou = number, overlap
        if best is not None and best_iou >= 0.5:
            if objects.ignored[best]:
                continue
            if (image, best) not in claimed:
                claimed.add((image, best))
                right += 1
            else:
                wrong += 1
        else:
            wrong += 1
        curve.append((right / total, right / (right + wrong)))
    return curve


@pytest.mark.parametrize("seed", range(5))
def test_voc_curves_equal_the_obvious_way(seed: int) -> None:
    annotations, found = made_case(seed)
    found = [Detections(d.boxes, d.scores + np.arange(len(d)) * 1e-6 + n * 1e-4, d.labels) for n, d in enumerate(found)]
    for label, curve in enumerate(evaluate_voc(annotations, found)):
        expected = obvious_curve(annotations, found, label)
        assert np.allclose(np.stack((curve.recall, curve.precision), 1), np.array(expected).reshape(-1, 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 40))
def test_areas_and_eleven_points_by_definition(hits: list[bool], extra: int) -> None:
    right = np.cumsum(hits)
    recall, precision = right / (right[-1] + extra), right / np.arange(1, len(hits) + 1)

    def best(at: float) -> float:
        return max((p for r, p in zip(recall, precision, strict=True) if r >= at), default=0.0)

    steps = sorted({0.0, *recall})
    expected = sum((high - low) * best(high) for low, high in pairwise(steps))
    assert area_ap(recall, precision) == pytest.approx(expected)
    assert eleven_point_ap(recall, precision) == pytest.approx(np.mean([best(t) for t in np.linspace(0, 1, 11)]))


def test_classes_without_objects_have_no_ap() -> None:
    builder = AnnotationBuilder(("a", "b"))
    builder.add_object((0, 0, 10, 10), 0)
    builder.add_image("x", 1, (20, 20))
    found = [Detections(np.array([[0.0, 0, 10, 10]]), np.array([0.9]), np.array([0]))]
    evaluation = score(found, builder.build())
    assert np.isnan(evaluation.curves[1].ap_area)
    assert np.isnan(evaluation.curves[1].ap_11_point)
    assert evaluation.per_class == pytest.approx({"a": 1.0, "b": -1.0})
    assert evaluation.metrics["VOC_mAP"] == evaluation.metrics["VOC07_mAP"] == 1.0


def test_per_class_numbers_keep_their_names_whatever_the_ids() -> None:
    builder = AnnotationBuilder(("late", "early"), (9, 4))
    builder.add_object((0, 0, 10, 10), 0)
    builder.add_object((10, 10, 20, 20), 1)
    builder.add_image("x", 1, (20, 20))
    found = [Detections(np.array([[0.0, 0, 10, 10]]), np.array([0.9]), np.array([0]))]
    assert score(found, builder.build()).per_class == pytest.approx({"late": 1.0, "early": 0.0})


def test_agreement_counts_both_directions() -> None:
    boxes = np.array([[0.0, 0, 100, 100], [200, 200, 300, 300], [50, 50, 90, 90]])
    a = Detections(boxes, np.array([0.9, 0.5, 0.01]), np.array([0, 1, 0]))
    same = agreement([a], [a])
    assert (same.counted, same.met, same.rate) == (4, 4, 1.0)
    b = Detections(boxes + np.array([0, 0, 0.1, 0]), np.array([0.9005, 0.6, 0.01]), np.array([0, 1, 0]))
    other = agreement([a], [b])
    assert (other.counted, other.met, other.missing, other.extra) == (4, 2, 1, 1)
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert agreement([nothing], [nothing]).rate == 1
    assert agreement([a], [nothing]).missing == 2


def test_a_share_is_of_the_first_box() -> None:
    a, b = np.array([[0.0, 0, 10, 10], [0, 0, 20, 10]]), np.array([[5.0, 0, 100, 100]])
    assert share_within(a, b).tolist() == [[0.5], [0.75]]


def test_detections_are_chosen_and_written() -> None:
    found = Detections(np.arange(8.0).reshape(2, 4), np.array([0.9, 0.3]), np.array([1, 0]))
    assert len(found.above(0.5)) == 1
    assert found[1:].labels.tolist() == [0]
    assert found.above(0.5).to_json(("a", "b")) == [{"class": "b", "score": 0.9, "box": [0.0, 1.0, 2.0, 3.0]}]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_coco_api_reference(shared_data: Path, kind: str, backend: str) -> None:
    folder = shared_data / "eval_refs/cocoapi"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text())
    expected = json.loads((folder / "expected_pycocotools.json").read_text())[kind]
    assert list(evaluate_coco(truth, results, kind, backend).summary.values()) == pytest.approx(expected, abs=1e-6)


def test_the_coco_api_reference_through_our_own_classes(shared_data: Path, backend: str, tmp_path: Path) -> None:
    folder = shared_data / "eval_refs/cocoapi"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    expected = json.loads((folder / "expected_pycocotools.json").read_text())["segm"]
    categories = sorted(truth["categories"], key=lambda item: item["id"])
    labels = {item["id"]: label for label, item in enumerate(categories)}
    builder = AnnotationBuilder([item["name"] for item in categories], [item["id"] for item in categories])
    for image in truth["images"]:
        size = (image["height"], image["width"])
        for item in (item for item in truth["annotations"] if item["image_id"] == image["id"]):
            mask = rle.frPyObjects(item["segmentation"], *size)
            counts = (rle.merge(mask) if isinstance(mask, list) else mask)["counts"]
            x, y, w, h = item["bbox"]
            label = labels[item["category_id"]]
            builder.add_object((x, y, x + w, y + h), label, bool(item["iscrowd"]), item["area"], counts)
        builder.add_image(image["file_name"], image["id"], size)
    annotations = builder.build()
    path = folder / "instances_val2014_fakesegm100_results.json"
    found = as_detections(load_results(path), annotations, path)
    metrics = score(found, annotations, backend).metrics
    assert [metrics[f"mask_{name}"] for name in NAMES] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("threshold", ["0.1", "0.3", "0.5", "0.75"])
def test_the_voc_reference(shared_data: Path, threshold: str) -> None:
    folder = shared_data / "eval_refs/voc_ap_case"
    expected = json.loads((folder / "expected.json").read_text())
    builder, found = AnnotationBuilder(("object",)), []
    for number, path in enumerate(sorted((folder / "gts").glob("*.txt"))):
        for row in _rows(path):  # left, top, width, height, with inclusive corners
            builder.add_object((row[0], row[1], row[0] + row[2] + 1, row[1] + row[3] + 1), 0)
        builder.add_image(path.name, number, (1000, 1000))
        rows = np.array(_rows(folder / "dets" / path.name)).reshape(-1, 5)
        boxes = np.concatenate((rows[:, 1:3], rows[:, 1:3] + rows[:, 3:] + 1), 1)
        found.append(Detections(boxes, rows[:, 0], np.zeros(len(rows), int)))
    (curve,) = evaluate_voc(builder.build(), found, float(threshold))
    assert curve.ap_11_point == pytest.approx(expected["11point"][threshold], abs=1e-6)
    assert curve.ap_area == pytest.approx(expected["every_point"][threshold], abs=1e-6)


def _rows(path: Path) -> list[list[float]]:
    return [[float(word) for word in line.split()[1:]] for line in path.read_text().splitlines() if line.strip()]
