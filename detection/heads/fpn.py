"""The feature pyramid head: every level proposes, two linear layers look at each region (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from backbones.contract import Backbone
from detection.boxes import area
from detection.heads.contract import DetectionHead
from detection.settings import PoolSettings

FINEST = 4
CANONICAL_STRIDE, CANONICAL_SIZE = 16, 224
"""Equation 1: a region of 224 pixels is pooled at stride 16, as it would be in ImageNet pretraining."""


class FPNHead(DetectionHead):
    """Maps of stride 4 and coarser, merged top-down; coarser levels by subsampling, for proposals only.

    Args:
        backbone: without a classifier.
        levels: how many levels propose; those beyond the backbone's are subsampled from the last, and with fewer
            levels than maps the coarsest maps are left out.
        channels: of the pyramid.
        vector: width of fc6 and fc7.
        settings: of RoIAlign.
    """

    def __init__(self, backbone: Backbone, levels: int, channels: int, vector: int, settings: PoolSettings) -> None:
        super().__init__()
        self.backbone = backbone
        maps = [name for name, stride in backbone.out_strides.items() if stride >= FINEST and name != "c1"]
        self.maps = maps[:levels]
        backbone.truncate(self.maps[-1])
        self.extra = levels - len(self.maps)
        finest = [backbone.out_strides[name] for name in self.maps]
        self.strides = (*finest, *(finest[-1] * 2 ** (i + 1) for i in range(self.extra)))
        self.channels, self.vector, self.settings = channels, vector, settings
        self.pyramid = FeaturePyramidNetwork([backbone.out_channels[name] for name in self.maps], channels)
        self.fc6 = nn.Linear(channels * settings.size**2, vector)
        self.fc7 = nn.Linear(vector, vector)
        self.relu = nn.ReLU(inplace=True)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def features(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone.features(images)
        levels = list(self.pyramid({name: maps[name] for name in self.maps}).values())
        for _ in range(self.extra):
            levels.append(levels[-1][:, :, ::2, ::2])
        return levels

    def pool(self, features: Sequence[Tensor], boxes: Tensor, roi_align: Callable[..., Tensor]) -> Tensor:
        strides = self.strides[: len(self.maps)]
        pooled: Tensor = roi_align(features[: len(self.maps)], strides, boxes, level_of(boxes, strides), self.settings)
        return pooled

    def vectors(self, pooled: Tensor) -> Tensor:
        """[N, C, size, size] -> [N, vector]. Bins are flattened rows, columns, channels: pooled memory as it lies."""
        flat = pooled.permute(0, 2, 3, 1).flatten(1)
        hidden = self.relu(self.fc6(flat))
        activated: Tensor = self.relu(self.fc7(hidden))
        return activated


def level_of(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Equation 1 of the FPN paper: the level from which a box is pooled. [..., 4] -> [...] int64."""
    size = area(boxes).clamp(min=1e-6).sqrt()
    stride = CANONICAL_STRIDE * size / CANONICAL_SIZE
    level = torch.floor(torch.log2(stride / strides[0]) + 1e-6)
    return level.clamp(0, len(strides) - 1).long()
