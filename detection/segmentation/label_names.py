"""Names of classes that label images do not bear themselves."""

from __future__ import annotations

from detection.data.named import VOC_CLASSES
from detection.segmentation.settings import BACKGROUND

VOC_LABELS = (BACKGROUND, *VOC_CLASSES)
"""By label, as in VOC's ``SegmentationClass``."""


def names_for(count: int) -> tuple[str, ...]:
    """Names of ``count`` classes that nobody names: VOC's where there are as many."""
    if count == len(VOC_LABELS):
        return VOC_LABELS
    return (BACKGROUND, *(f"class {number}" for number in range(1, count)))
