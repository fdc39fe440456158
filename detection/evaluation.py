"""A detector's marks on a data set, from any predictor and with any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backbones.errors import InputError
from backbones.running import distributed
from detection.data.annotations import Annotations, DetectionData
from detection.detections import Detections
from detection.masks.compressed import CompressedMasks
from detection.metrics.coco import CocoResult, as_coco_results, as_coco_truth, evaluate_coco
from detection.metrics.confusion import confusion_matrix
from detection.metrics.errors import ErrorBreakdown, Kind, break_down, judge
from detection.metrics.thresholds import (
    DEFAULT,
    OperatingPoint,
    StoredThresholds,
    best_point,
    best_thresholds,
    thresholds_by_class,
)
from detection.metrics.voc import ClassCurve, evaluate_voc

PredictEach = Callable[[Iterable[Any], int], Iterator[tuple[int, Detections]]]
"""(pictures, batch size) -> (place, detections) in any order: ``Detector.predict_each`` or a runtime's."""


@dataclass(frozen=True)
class Evaluation:
    """Marks of one model on one split.

    Attributes:
        metrics: COCO's twelve numbers, the same of masks where there are any (``mask_AP``, ...), and ``VOC_mAP``
            (area) and ``VOC07_mAP`` (11 points) at IoU 0.5; -1 where there is no ground truth of that kind.
        per_class: COCO's AP of each class; -1 as above.
        coco: the precision tensor behind it; classes are in the order of the labels.
        curves: VOC's curve of each class.
        masks: as ``coco``, of masks; None without.
    """

    metrics: dict[str, float]
    per_class: dict[str, float]
    coco: CocoResult
    curves: list[ClassCurve]
    masks: CocoResult | None = None

    @property
    def best_thresholds(self) -> tuple[float, ...]:
        """For each class the score of the best F1 at IoU 0.5: ``DetectorSettings.score_thresholds``."""
        return best_thresholds(self.curves)

    def classes(self) -> list[ClassMarks]:
        """The marks of each class."""
        fifty = self.coco.per_class_at(0.5)
        masks = self.masks.per_class if self.masks else [None] * len(fifty)
        rows = zip(self.per_class.items(), fifty, masks, self.curves, strict=True)
        return [
            ClassMarks(name, curve.objects, ap, ap50, mask_ap, best_point(curve))
            for (name, ap), ap50, mask_ap, curve in rows
        ]


@dataclass(frozen=True)
class ClassMarks:
    """Marks of one class.

    Attributes:
        name: the class.
        objects: how many there are to find, ignored ones left out.
        ap, ap50: COCO's; -1 without objects.
        mask_ap: of masks, where there are any.
        best: where F1 is best.
    """

    name: str
    objects: int
    ap: float
    ap50: float
    mask_ap: float | None
    best: OperatingPoint


@dataclass(frozen=True)
class Diagnosis:
    """What goes wrong.

    Attributes:
        errors: how often detections err in each way, and what it costs.
        confusion: [K + 1, K + 1] objects by class and by what they were detected as; background is last.
        thresholds: of each class, from which score on detections are drawn and count for ``confusion``.
    """

    errors: ErrorBreakdown
    confusion: Any
    thresholds: tuple[float, ...]


def detect_all(
    predict_each: PredictEach, data: DetectionData, batch_size: int, advance: Callable[[], None] = lambda: None
) -> list[Detections]:
    """Detections of every image, in order, each predicted once; masks are compressed as they come.

    With several processes the main one gets them all, and the others an empty list.

    Args:
        predict_each: the model.
        data: the images.
        batch_size: at most so many images at once.
        advance: called after each image.
    """
    mine = distributed.share_of(len(data))
    found: dict[int, Detections] = {}
    for place, detections in predict_each((data.pictures[image] for image in mine), batch_size):
        if detections.masks is not None:
            detections = replace(detections, masks=CompressedMasks.of(detections.masks))
        found[place] = detections
        advance()
    shares = distributed.gather_on_main([found[place] for place in range(len(mine))])
    return [detections for share in shares for detections in share]  # shares are contiguous, in order of rank


def score(found: Sequence[Detections], annotations: Annotations, backend: str = "pycocotools") -> Evaluation:
    """COCO's and VOC's marks; those of masks too, where both have masks.

    Args:
        found: detections of each image, labelled as the annotations are.
        annotations: the ground truth.
        backend: ``pycocotools`` or ``hotcoco``.

    Raises:
        InputError: some detections have masks and others none.
    """
    results = as_coco_results(found, annotations.image_ids.tolist(), annotations.category_ids)
    by_label = np.argsort(np.argsort(annotations.category_ids)).tolist()  # COCO lists classes by category id
    coco = evaluate_coco(as_coco_truth(annotations), results, "bbox", backend).reordered(by_label)
    masks = None
    if annotations.objects.masks is not None and have_masks(found):
        masks = evaluate_coco(as_coco_truth(annotations, masks=True), results, "segm", backend).reordered(by_label)
    curves = evaluate_voc(annotations, found)
    areas = [curve.ap_area for curve in curves if curve.objects]
    points = [curve.ap_11_point for curve in curves if curve.objects]
    metrics = {
        **coco.summary,
        **({f"mask_{name}": value for name, value in masks.summary.items()} if masks else {}),
        "VOC_mAP": float(np.mean(areas)) if areas else -1.0,
        "VOC07_mAP": float(np.mean(points)) if points else -1.0,
    }
    per_class = dict(zip(annotations.classes, coco.per_class, strict=True))
    return Evaluation(metrics, per_class, coco, curves, masks)


def have_masks(found: Sequence[Detections]) -> bool:
    """Whether detections have masks.

    Raises:
        InputError: some have and some have not.
    """
    kinds = {detections.masks is not None for detections in found if len(detections)}
    if len(kinds) == 2:
        raise InputError("some detections have masks and others none; they can't be scored together")
    return kinds.pop() if kinds else any(detections.masks is not None for detections in found)


def diagnose(found: Sequence[Detections], annotations: Annotations, thresholds: Sequence[float] = ()) -> Diagnosis:
    """What goes wrong, and how much.

    Args:
        found: detections of each image, labelled as the annotations are.
        annotations: the ground truth.
        thresholds: of each class, such as the detector's ``score_thresholds``; 0.5 where there are none.
    """
    chosen = thresholds_by_class(StoredThresholds(tuple(annotations.classes), tuple(thresholds)))
    return Diagnosis(break_down(found, annotations), confusion_matrix(found, annotations, chosen), chosen)


def image_quality(
    found: Detections, annotations: Annotations, image: int, threshold: float | Sequence[float] = DEFAULT
) -> float:
    """How well one image went at IoU 0.5: right / (right + wrong + missed); 1 for a rightly empty one.

    Args:
        found: what was found in the image.
        annotations: the ground truth.
        image: its number.
        threshold: least score of what counts, for all classes or for each.
    """
    truth = annotations.of(image)
    verdicts = judge(replace(found, masks=None).above(threshold), truth)
    right, wrong = int((verdicts.kinds == Kind.RIGHT).sum()), int((verdicts.kinds > 0).sum())
    missed = int((~truth.ignored).sum()) - right
    return right / (right + wrong + missed) if right + wrong + missed else 1.0
