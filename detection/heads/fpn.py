"""The feature pyramid head: every level proposes, linear layers look at each region (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork

from backbones.contract import Backbone
from detection.boxes import area
from detection.heads.contract import DetectionHead
from detection.settings import DetectorSettings

FINEST = 4
CANONICAL_STRIDE, CANONICAL_SIZE = 16, 224
"""Equation 1: a region of 224 pixels is pooled at stride 16, as it would be in ImageNet pretraining."""


class FPNHead(DetectionHead):
    """Maps of stride 4 and coarser, merged top-down; coarser levels by subsampling, for proposals only.

    With fewer anchor levels than maps the coarsest maps are left out; levels beyond the backbone's are subsampled.

    Args:
        backbone: without a classifier.
        settings: ``anchors`` (levels), ``channels``, ``neck_norm``, ``pool``, ``box_convs``,
            ``box_linears``, ``vector``.
    """

    def __init__(self, backbone: Backbone, settings: DetectorSettings) -> None:
        super().__init__()
        self.backbone = backbone
        levels = len(settings.anchors.sizes)
        maps = [name for name, stride in backbone.out_strides.items() if stride >= FINEST and name != "c1"]
        self.used = maps[:levels]
        backbone.truncate(self.used[-1])
        self.extra = levels - len(self.used)
        self.pooled_strides = tuple(backbone.out_strides[name] for name in self.used)
        coarsest = self.pooled_strides[-1]
        self.strides = (*self.pooled_strides, *(coarsest * 2 ** (i + 1) for i in range(self.extra)))
        self.channels = self.map_channels = settings.channels
        self.vector, self.pool = settings.vector, settings.pool
        norm = nn.BatchNorm2d if settings.neck_norm else None
        widths = [backbone.out_channels[name] for name in self.used]
        self.pyramid = FeaturePyramidNetwork(widths, settings.channels, norm_layer=norm)
        self.convs = nn.Sequential(
            *(convolution(settings.channels, norm is not None) for _ in range(settings.box_convs))
        )
        self.fc6 = _linear(settings.channels * settings.pool.size**2, settings.vector)
        self.fc7 = _linear(settings.vector, settings.vector) if settings.box_linears > 1 else None
        self.relu = nn.ReLU(inplace=True)

    def features(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone.features(images)
        levels = list(self.pyramid({name: maps[name] for name in self.used}).values())
        for _ in range(self.extra):
            levels.append(functional.max_pool2d(levels[-1], 1, 2))  # one operator; engines misread strided slices
        return levels

    def levels(self, boxes: Tensor) -> Tensor:
        return level_of(boxes, self.pooled_strides)

    def vectors(self, maps: Tensor) -> Tensor:
        """[N, C, size, size] -> [N, vector]. Bins are flattened rows, columns, channels: pooled memory as it lies."""
        flat = self.convs(maps).permute(0, 2, 3, 1).flatten(1)
        hidden: Tensor = self.relu(self.fc6(flat))
        if self.fc7 is not None:
            hidden = self.relu(self.fc7(hidden))
        return hidden


def convolution(channels: int, norm: bool) -> nn.Sequential:
    """A 3x3 convolution with ReLU, with batch normalization or with a bias. [N, C, h, w] -> the same shape."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.BatchNorm2d(channels) if norm else nn.Identity(), nn.ReLU(inplace=True))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_uniform_(layer.weight, a=1)
    nn.init.zeros_(layer.bias)
    return layer


def level_of(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Equation 1 of the FPN paper: the level from which a box is pooled. [..., 4] -> [...] int64."""
    size = area(boxes).clamp(min=1e-6).sqrt()
    stride = CANONICAL_STRIDE * size / CANONICAL_SIZE
    level = torch.floor(torch.log2(stride / strides[0]) + 1e-6)
    return level.clamp(0, len(strides) - 1).long()
