"""COCO's twelve numbers, by pycocotools (the reference) or hotcoco (the same numbers, faster)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.extras import require
from backbones.images import Size
from detection.data.annotations import Annotations
from detection.detections import Detections
from detection.masks.encoded import EncodedMasks

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
         "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large")  # fmt: skip
BACKENDS = ("pycocotools", "hotcoco")
RECALLS = np.linspace(0, 1, 101)
THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST_DETECTIONS = 100
"""Of one class in one image; weaker ones are not looked at."""
_SHAPES = {"bbox": "bbox", "segm": "segmentation"}


@dataclass(frozen=True)
class CocoResult:
    """What COCO's evaluation gives.

    Attributes:
        summary: the twelve numbers by name; -1 where there is no ground truth of that kind.
        per_class: AP of each class, in the order of its category id; -1 as above.
        precision: [10, 101, K]: precision by IoU threshold, recall and class, for all areas and 100 detections.
    """

    summary: dict[str, float]
    per_class: tuple[float, ...]
    precision: NDArray[np.float64]

    def reordered(self, order: Sequence[int]) -> CocoResult:
        """The same with classes in another order."""
        return CocoResult(self.summary, tuple(self.per_class[place] for place in order), self.precision[..., order])

    def per_class_at(self, iou: float) -> tuple[float, ...]:
        """AP of each class at one of the ten IoU thresholds; -1 where there is no ground truth."""
        precision = self.precision[int(np.argmin(abs(THRESHOLDS - iou)))]
        return tuple(mean_or_missing(precision[:, label]) for label in range(precision.shape[1]))


def evaluate_coco(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: str = "bbox", backend: str = "pycocotools"
) -> CocoResult:
    """Score results against ground truth, both as COCO's files hold them.

    Of results that hold boxes and masks only the kind in question is handed on: given both, pycocotools would sort
    masks into small, medium and large by the areas of their boxes.

    Args:
        truth: ``images``, ``annotations`` (ids from 1: pycocotools takes id 0 for unmatched), ``categories``.
        results: ``image_id``, ``category_id``, ``score``, and ``bbox`` (x, y, width, height) or ``segmentation``.
        kind: ``bbox`` or ``segm``.
        backend: ``pycocotools`` or ``hotcoco``.

    Raises:
        InputError: an annotation has id 0, a result is of an unknown image, or hotcoco is not installed.
    """
    if any(item["id"] == 0 for item in truth["annotations"]):
        raise InputError("annotation id 0: pycocotools would never match it; number annotations from 1")
    known = {image["id"] for image in truth["images"]}
    strange = next((item["image_id"] for item in results if item["image_id"] not in known), None)
    if strange is not None:
        raise InputError(f"a result is of image {strange}, which the ground truth does not have")
    needed = ("image_id", "category_id", "score", _SHAPES[kind])
    results = [{name: item[name] for name in needed if name in item} for item in results]  # pycocotools writes in them
    evaluator = _hotcoco(truth, results, kind) if backend == "hotcoco" else _pycocotools(truth, results, kind)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = np.asarray(evaluator.eval["precision"])[:, :, :, 0, -1]  # [T, R, K, area, detections]
    per_class = [mean_or_missing(precision[:, :, label]) for label in range(precision.shape[2])]
    summary = dict(zip(NAMES, (float(value) for value in evaluator.stats), strict=True))
    return CocoResult(summary, tuple(per_class), precision)


def _pycocotools(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground, found = COCO(), COCO()
        ground.dataset = truth
        ground.createIndex()
        if results:
            found = ground.loadRes(results)
        else:  # loadRes refuses an empty list
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        return COCOeval(ground, found, kind)


def _hotcoco(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> Any:
    require("hotcoco")
    import hotcoco

    with contextlib.redirect_stdout(io.StringIO()):
        ground = hotcoco.COCO(truth)
        return hotcoco.COCOeval(ground, ground.load_res(results), kind)


def mean_or_missing(precision: NDArray[np.float64]) -> float:
    """The mean of what is counted; -1 where nothing is."""
    counted = precision[precision > -1]
    return float(counted.mean()) if counted.size else -1.0


def interpolated_ap(right: NDArray[np.bool_], objects: int) -> float:
    """COCO's AP at one IoU threshold: the mean over recall 0, 0.01, ..., 1 of the best precision there or beyond.

    Args:
        right: [D] whether each detection of a class is right, by falling score.
        objects: how many there are to find, at least 1.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.append(best, 0.0)[np.minimum(np.searchsorted(hits / objects, RECALLS), len(hits))].mean())


def as_coco_truth(annotations: Annotations, masks: bool = False) -> dict[str, Any]:
    """Ground truth as COCO's files hold it. Ignored objects become crowds.

    Args:
        annotations: the objects.
        masks: with ``segmentation``. An object without a mask cannot be scored then: it becomes a crowd over its box.
    """
    images = [
        {"id": int(image), "file_name": str(name), "height": int(height), "width": int(width)}
        for image, name, (height, width) in zip(
            annotations.image_ids, annotations.names, annotations.sizes, strict=True
        )
    ]
    owners = np.repeat(np.arange(len(annotations)), np.diff(annotations.first)).tolist()
    objects = annotations.objects
    items = [
        {
            "id": number,
            "image_id": int(annotations.image_ids[owner]),
            "category_id": annotations.category_ids[label],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "area": float(area),
            "iscrowd": int(ignored),
        }
        for number, (owner, label, box, area, ignored) in enumerate(
            zip(owners, objects.labels, objects.boxes.tolist(), objects.areas, objects.ignored, strict=True), start=1
        )
    ]
    if masks and objects.masks is not None:
        for number, (item, owner) in enumerate(zip(items, owners, strict=True)):
            _add_mask(item, objects.masks, number, annotations.size(owner))
    categories = [
        {"id": number, "name": name} for number, name in zip(annotations.category_ids, annotations.classes, strict=True)
    ]
    return {"images": images, "annotations": items, "categories": categories}


def _add_mask(item: dict[str, Any], masks: EncodedMasks, number: int, size: Size) -> None:
    counts = masks.counts(number)
    if counts:
        item["segmentation"] = {"size": list(size), "counts": counts.decode("ascii")}
        return
    from pycocotools import mask as rle

    x, y, width, height = item["bbox"]
    outline = [x, y, x + width, y, x + width, y + height, x, y + height]
    item |= {"iscrowd": 1, "segmentation": rle.frPyObjects([outline], *size)[0]}


def as_coco_results(
    found: Sequence[Detections], image_ids: Sequence[int], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Detections as COCO's result files hold them, with the ids of the annotation file; masks as compressed text."""
    pairs = zip(found, image_ids, strict=True)
    return [row for detections, image in pairs for row in detections.to_coco(image, category_ids)]
