"""The methods that every head has, so that the detector need not know which one it holds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from backbones.contract import Backbone
from detection.settings import PoolSettings


class DetectionHead(nn.Module):
    """A backbone divided into what runs on the image and what runs on each region.

    Attributes:
        backbone: without a classifier.
        strides: of the feature levels that ``features`` gives, finest first.
        pooled_strides: of those that regions are pooled from, the first ones.
        channels: of each level.
        vector: length of a region's vector.
        pool: how regions are pooled.
        map_channels: of what ``maps`` gives.
        masks_from_maps: the mask branch reads ``maps`` (C4), instead of pooling regions on its own.
    """

    backbone: Backbone
    strides: tuple[int, ...]
    pooled_strides: tuple[int, ...]
    channels: int
    vector: int
    pool: PoolSettings
    map_channels: int
    masks_from_maps: bool = False

    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        """Take from a classifier's weights what this head has besides the backbone, and say so."""

    def features(self, images: Tensor) -> list[Tensor]:
        """Normalized images [B, 3, H, W] -> levels [B, channels, H/stride, W/stride]."""
        raise NotImplementedError

    def levels(self, boxes: Tensor) -> Tensor:
        """From which level each region is pooled: [B, R, 4] -> [B, R] int64, indices into ``pooled_strides``."""
        return torch.zeros(boxes.shape[:2], dtype=torch.long, device=boxes.device)

    def maps(self, pooled: Tensor) -> Tensor:
        """Pooled regions [N, C, size, size] -> what the head's convolutions make of them (conv5_x in C4)."""
        return pooled

    def vectors(self, maps: Tensor) -> Tensor:
        """What ``maps`` gave -> one vector for each region [N, vector]."""
        raise NotImplementedError
