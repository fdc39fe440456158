"""Labels painted from the masks of objects: COCO's, or the built-in digits'."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as rle

from backbones.errors import InputError
from backbones.images import Labels, Size
from detection.data.annotations import Annotations, DetectionData, Objects
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.settings import BACKGROUND, IGNORED, MOST_CLASSES


class PaintedLabels:
    """Painted when they are asked for.

    Args:
        annotations: with masks.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations

    def __getitem__(self, image: int) -> Labels:
        return paint_labels(self.annotations.of(image), self.annotations.size(image))


def painted(data: DetectionData) -> SegmentationData:
    """Label every pixel by the object that covers it; classes count from 1, and 0 is the background.

    Raises:
        InputError: the data has no masks, or more classes than a label image can name.
    """
    annotations = data.annotations
    if annotations.objects.masks is None:
        raise InputError(f"{data.name}: there are no masks to paint labels from")
    classes = (BACKGROUND, *annotations.classes)
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"{data.name}: {len(classes)} classes with the background, at most {MOST_CLASSES} are possible"
        )
    return SegmentationData(data, PaintedLabels(annotations), classes)


def paint_labels(objects: Objects, size: Size) -> Labels:
    """Smaller objects lie over larger ones, and all over what is ignored: crowds, and boxes of objects without a mask.

    Args:
        objects: of one image, with masks.
        size: of the image.
    """
    labels = np.zeros(size, np.uint8)
    masks = objects.masks
    if masks is None:
        return labels
    drawn = [bool(masks.counts(number)) for number in range(len(masks))]
    for number in np.flatnonzero(~np.array(drawn, bool)):
        x1, y1, x2, y2 = objects.boxes[number]
        labels[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = IGNORED
    areas = [rle.area(masks.to_coco(number, size)) if drawn[number] else 0 for number in range(len(masks))]
    for number in np.lexsort((-np.array(areas, np.int64), ~objects.ignored)):
        if drawn[number]:
            covered = masks.dense(int(number), size)
            labels[covered] = IGNORED if objects.ignored[number] else objects.labels[number] + 1
    return labels
