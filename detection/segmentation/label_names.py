"""Names and colours of label images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detection.segmentation.settings import BACKGROUND

VOC_CLASSES = (
    BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""By label, as in VOC's ``SegmentationClass``."""


def names_for(count: int) -> tuple[str, ...]:
    """Names of ``count`` classes that nobody names: VOC's where there are as many."""
    if count == len(VOC_CLASSES):
        return VOC_CLASSES
    return (BACKGROUND, *(f"class {number}" for number in range(1, count)))


def palette() -> NDArray[np.uint8]:
    """VOC's colours, [256, 3]: the bits of a label, three by three, become the highest bits of red, green and blue."""
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for place in range(8):
        for channel in range(3):
            colours[:, channel] |= (labels >> (3 * place + channel) & 1) << (7 - place)
    return colours.astype(np.uint8)
