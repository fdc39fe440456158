"""A segmenter's marks on a data set, as VOC counts them, from any predictor and with any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Labels
from backbones.running import distributed
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.maps import SegmentationMap
from detection.segmentation.settings import IGNORED

SegmentEach = Callable[[Iterable[Any], int], Iterator[tuple[int, SegmentationMap]]]
"""(pictures, batch size) -> (place, labels) in any order: ``Segmenter.predict_each`` or a runtime's."""


@dataclass(frozen=True)
class SegmentationMarks:
    """Marks of one model on one split.

    Attributes:
        confusion: [K, K] int64: pixels by true label (row) and found label (column), over all images.
        classes: names in the order of the labels.
        image_accuracy: for each image the share of labelled pixels that are right; 1 where none is labelled.
    """

    confusion: NDArray[np.int64]
    classes: tuple[str, ...]
    image_accuracy: tuple[float, ...]

    @property
    def per_class(self) -> dict[str, float]:
        """Intersection over union of each class; -1 for one that was neither there nor found."""
        return dict(zip(self.classes, class_iou(self.confusion).tolist(), strict=True))

    @property
    def metrics(self) -> dict[str, float]:
        """``mIoU`` over the classes that were there or found, background among them, and ``pixel_accuracy``."""
        iou = class_iou(self.confusion)
        counted = iou[iou >= 0]
        pixels = int(self.confusion.sum())
        return {
            "mIoU": float(counted.mean()) if counted.size else -1.0,
            "pixel_accuracy": float(np.trace(self.confusion) / pixels) if pixels else -1.0,
        }


def confusion_matrix(truth: Labels, found: Labels, classes: int) -> NDArray[np.int64]:
    """Pixels by true and found label, [K, K]; those whose truth is 255 are left out.

    Args:
        truth, found: of the same shape.
        classes: K.
    """
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + found[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Right pixels over those that have the label in truth or were given it, [K]; -1 where there are none."""
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    return np.where(union > 0, right / np.maximum(union, 1), -1.0)


def evaluate_segmenter(
    segment_each: SegmentEach, data: SegmentationData, batch_size: int, advance: Callable[[], None] = lambda: None
) -> SegmentationMarks:
    """Marks at the images' own size, on every process; each image is predicted once.

    Args:
        segment_each: the model.
        data: images and labels, labelled as the model labels.
        batch_size: at most so many images at once.
        advance: called after each image.
    """
    mine = distributed.share_of(len(data))
    count = len(data.classes)
    total = np.zeros((count, count), np.int64)
    accuracy: dict[int, float] = {}
    for place, found in segment_each((data.images.pictures[image] for image in mine), batch_size):
        image = mine[place]
        confusion = confusion_matrix(data.labels[image], found.labels, count)
        total += confusion
        pixels = int(confusion.sum())
        accuracy[image] = float(np.trace(confusion) / pixels) if pixels else 1.0
        advance()
    merged: dict[int, float] = {}
    matrices = []
    for matrix, part in distributed.gather_objects((total, accuracy)):
        matrices.append(matrix)
        merged |= part
    everything = tuple(merged[image] for image in range(len(data)))
    return SegmentationMarks(np.sum(matrices, axis=0), data.classes, everything)
