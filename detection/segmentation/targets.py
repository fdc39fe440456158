"""The ground truth of a batch for segmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SegmentationTargets:
    """Labels of B images.

    Attributes:
        labels: [B, H, W] uint8 in 0..K-1; 255 where nothing is to be learned, as in the padding.
        sizes: [B, 2] int64, (height, width) of the valid area.
    """

    labels: Tensor
    sizes: Tensor

    def to(self, device: torch.device) -> SegmentationTargets:
        """The same on a device, without waiting for the copy."""
        return self.each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> SegmentationTargets:
        """The same in page-locked memory (called by the data loader)."""
        return self.each(Tensor.pin_memory)

    def each(self, change: Callable[[Tensor], Tensor]) -> SegmentationTargets:
        """The same with both tensors changed."""
        return SegmentationTargets(change(self.labels), change(self.sizes))
