"""The residual and plain networks of sections 3.3 (ImageNet, Table 1) and 4.2 (CIFAR-10)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from backbones.batch_norm import convolve
from backbones.blocks import BasicBlock, Bottleneck, conv3x3, make_stage
from backbones.contract import Backbone
from backbones.variants import ResNetVariant


class Stem(nn.Module):
    """conv1: one convolution with batch normalization and ReLU. [B, 3, H, W] -> [B, width, H/stride, W/stride]."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        activated: Tensor = self.relu(convolve(images, self.conv, self.bn))
        return activated

    def convolution_pairs(self) -> list[tuple[str, str]]:
        return [("conv", "bn")]


CAFFE_POOL = "pool.caffe"
"""The entry of a state dict that asks for Caffe's grid (``StemPool``)."""


class StemPool(nn.MaxPool2d):
    """The 3x3 max pooling with stride 2 between conv1 and conv2_x. [B, C, H, W] -> [B, C, ceil(H/2), ceil(W/2)].

    Windows are centred on every second pixel (padding 1). On Caffe's grid, that of the paper's released weights, they
    begin there (no padding, ceil mode): [B, C, floor(H/2), floor(W/2)] from 2x2 up. Weights fit one grid or the other,
    so the choice travels with them: on Caffe's grid the state dict has one more entry, ``pool.caffe``, and loading a
    state dict sets the grid that it asks for.
    """

    def __init__(self) -> None:
        super().__init__(3, stride=2, padding=1)

    def use_caffe_grid(self, on: bool) -> None:
        self.padding, self.ceil_mode = (0, True) if on else (1, False)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.ceil_mode:
            destination[prefix + "caffe"] = torch.tensor(True)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        self.use_caffe_grid(prefix + "caffe" in state_dict)


class ResNet(Backbone):
    """A row of Table 1, or a 6n+2 network of section 4.2.

    ``net(images)`` gives logits [B, num_classes]; ``net.features(images)`` the maps ``c1`` (conv1), ``c2``
    (conv2_x), ... For ImageNet networks their strides are 2, 4, 8, 16, 32; for CIFAR networks 1, 1, 2, 4.

    Args:
        variant: the row.
        num_classes: size of the classifier; 0 leaves it out, and ``net(images)`` gives pooled features.
    """

    def __init__(self, variant: ResNetVariant, num_classes: int = 1000) -> None:
        super().__init__()
        self.variant = variant
        width = variant.widths[0]
        expansion = Bottleneck.expansion if variant.block == "bottleneck" else BasicBlock.expansion
        if variant.small_input:
            self.stem = Stem(conv3x3(3, width))
            self.pool: nn.Module = nn.Identity()
            stride = 1
        else:
            self.stem = Stem(nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False))
            self.pool = StemPool()
            stride = 4
        self.out_channels = {"c1": width}
        self.out_strides = {"c1": 1 if variant.small_input else 2}
        channels = width
        for number, (blocks, stage_width) in enumerate(zip(variant.depths, variant.widths, strict=True), start=2):
            first_stride = 1 if number == 2 else 2
            stage = make_stage(
                variant.block, variant.shortcut, variant.stride_on, channels, stage_width, blocks, first_stride
            )
            self.add_module(f"conv{number}_x", stage)
            channels, stride = stage_width * expansion, stride * first_stride
            self.out_channels[f"c{number}"] = channels
            self.out_strides[f"c{number}"] = stride
        self.average_pool = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        initialize(self)

    def features(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        stem = self.stem(images)
        maps = {"c1": stem}
        x = self.pool(stem)
        for name in list(self.out_channels)[1:]:
            if until in maps:
                break
            x = maps[name] = self.stage(name)(x)
        return maps

    def stage(self, name: str) -> nn.Module:
        return self.get_submodule(f"conv{name[1:]}_x")

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> logits [B, num_classes]: global average pooling and one linear layer (section 3.3)."""
        *_, last = self.features(images).values()
        logits: Tensor = self.fc(torch.flatten(self.average_pool(last), 1))
        return logits


def initialize(module: nn.Module) -> None:
    """He et al. initialization, the paper's [13]: zero-mean Gaussian, std sqrt(2 / fan), and identity norms.

    The fan is the outgoing one for convolutions and the incoming one for linear layers.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
