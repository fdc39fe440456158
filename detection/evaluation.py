"""A detector's marks on a data set, from any predictor and with any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backbones.running import distributed
from detection.data.annotations import Annotations, DetectionData
from detection.detections import Detections
from detection.metrics.coco import CocoResult, as_coco_results, as_coco_truth, evaluate_coco
from detection.metrics.voc import ClassCurve, evaluate_voc, pairwise_iou

PredictEach = Callable[[Iterable[Any], int], Iterator[tuple[int, Detections]]]
"""(pictures, batch size) -> (place, detections) in any order: ``Detector.predict_each`` or a runtime's."""


@dataclass(frozen=True)
class Evaluation:
    """Marks of one model on one split.

    Attributes:
        metrics: COCO's twelve numbers, and ``VOC_mAP`` (area) and ``VOC07_mAP`` (11 points) at IoU 0.5.
        per_class: COCO's AP of each class.
        coco: the precision tensor behind it.
        curves: VOC's curve of each class.
    """

    metrics: dict[str, float]
    per_class: dict[str, float]
    coco: CocoResult
    curves: list[ClassCurve]


def detect_all(
    predict_each: PredictEach, data: DetectionData, batch_size: int, advance: Callable[[], None] = lambda: None
) -> list[Detections]:
    """Detections of every image, in order, on every process; each image is predicted once.

    Args:
        predict_each: the model.
        data: the images.
        batch_size: at most so many images at once.
        advance: called after each image.
    """
    mine = distributed.share_of(len(data))
    found: dict[int, Detections] = {}
    for place, detections in predict_each((data.pictures[image] for image in mine), batch_size):
        found[mine[place]] = detections
        advance()
    everything: dict[int, Detections] = {}
    for part in distributed.gather_objects(found):
        everything |= part
    return [everything[image] for image in range(len(data))]


def score(found: Sequence[Detections], annotations: Annotations, backend: str = "pycocotools") -> Evaluation:
    """COCO's and VOC's marks.

    Args:
        found: detections of each image, labelled as the annotations are.
        annotations: the ground truth.
        backend: ``pycocotools`` or ``hotcoco``.
    """
    results = as_coco_results(found, annotations.image_ids.tolist(), annotations.category_ids)
    coco = evaluate_coco(as_coco_truth(annotations), results, backend=backend)
    curves = evaluate_voc(annotations, found)
    areas = [curve.ap_area for curve in curves if curve.objects]
    points = [curve.ap_11_point for curve in curves if curve.objects]
    metrics = {
        **coco.summary,
        "VOC_mAP": float(np.mean(areas)) if areas else -1.0,
        "VOC07_mAP": float(np.mean(points)) if points else -1.0,
    }
    order = np.argsort(annotations.category_ids)  # COCO lists classes by category id
    per_class = {annotations.classes[label]: ap for label, ap in zip(order, coco.per_class, strict=True)}
    per_class = {name: per_class[name] for name in annotations.classes}
    return Evaluation(metrics, per_class, coco, curves)


def image_quality(found: Detections, annotations: Annotations, image: int, threshold: float = 0.5) -> float:
    """How well one image went: right / (right + wrong + missed) at score and IoU 0.5; 1 for a rightly empty one."""
    truth = annotations.of(image)
    sure = found.above(threshold)
    overlaps = pairwise_iou(np.asarray(sure.boxes, np.float64), truth.boxes)
    overlaps[np.asarray(sure.labels)[:, None] != truth.labels[None]] = 0
    right, claimed, excused = 0, set(), 0
    for row in overlaps:
        best = int(row.argmax()) if len(row) else -1
        if best < 0 or row[best] < 0.5 or best in claimed:
            continue
        claimed.add(best)
        if truth.ignored[best]:
            excused += 1
        else:
            right += 1
    wrong, missed = len(sure) - right - excused, int((~truth.ignored).sum()) - right
    return right / (right + wrong + missed) if right + wrong + missed else 1.0
