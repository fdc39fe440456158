"""The methods that every head has, so that the detector need not know which one it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class DetectionHead(nn.Module):
    """A backbone divided into what runs on the image and what runs on each region.

    Attributes:
        strides: of the feature levels that ``features`` gives, finest first.
        channels: of each level.
        vector: length of a region's vector.
    """

    strides: tuple[int, ...]
    channels: int
    vector: int

    def features(self, images: Tensor) -> list[Tensor]:
        """Normalized images [B, 3, H, W] -> levels [B, channels, H/stride, W/stride]."""
        raise NotImplementedError

    def pool(self, features: Sequence[Tensor], boxes: Tensor, roi_align: Callable[..., Tensor]) -> Tensor:
        """Regions [B, R, 4] -> their features [B * R, C, size, size]."""
        raise NotImplementedError

    def vectors(self, pooled: Tensor) -> Tensor:
        """What ``pool`` gave -> one vector for each region [B * R, vector]."""
        raise NotImplementedError
