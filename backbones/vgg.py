"""VGG-16 and VGG-19, the paper's baselines (section 3.3; Simonyan and Zisserman 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backbones.contract import Backbone
from backbones.resnet import initialize
from backbones.variants import VGGVariant


class VGG(Backbone):
    """Five groups of 3x3 convolutions with max pooling between, then fc6, fc7, fc8.

    ``net(images)`` gives logits [B, num_classes]; ``net.features(images)`` the maps ``c1`` ... ``c5`` at strides
    1, 2, 4, 8, 16: each is the last activation of its group, before the pooling that follows, since detectors
    read conv5_3 at stride 16.

    Args:
        variant: the row.
        num_classes: size of fc8; 0 leaves out the three linear layers, and ``net(images)`` gives the pooled
            features [B, 512 * 7 * 7].
    """

    def __init__(self, variant: VGGVariant, num_classes: int = 1000) -> None:
        super().__init__()
        self.variant = variant
        self.out_channels = {f"c{i}": width for i, width in enumerate(variant.widths, start=1)}
        self.out_strides = {f"c{i}": 2 ** (i - 1) for i in range(1, len(variant.widths) + 1)}
        channels = 3
        for number, (layers, width) in enumerate(zip(variant.depths, variant.widths, strict=True), start=1):
            group = nn.Sequential() if number == 1 else nn.Sequential(nn.MaxPool2d(2))
            for _ in range(layers):
                group.append(nn.Conv2d(channels, width, 3, padding=1)).append(nn.ReLU(inplace=True))
                channels = width
            self.add_module(f"conv{number}_x", group)
        self.pool = nn.MaxPool2d(2)
        self.average_pool = nn.AdaptiveAvgPool2d(7)
        self.classifier: nn.Module = nn.Identity()
        if num_classes:
            self.classifier = nn.Sequential()
            for name, size_in, size_out in (("6", channels * 49, 4096), ("7", 4096, 4096)):
                self.classifier.add_module(f"fc{name}", nn.Linear(size_in, size_out))
                self.classifier.add_module(f"relu{name}", nn.ReLU(inplace=True))
                self.classifier.add_module(f"drop{name}", nn.Dropout())
            self.classifier.add_module("fc8", nn.Linear(4096, num_classes))
        initialize(self)

    def features(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = {}
        x = images
        for name in self.out_channels:
            if until in maps:
                break
            x = maps[name] = self.stage(name)(x)
        return maps

    def stage(self, name: str) -> nn.Module:
        return self.get_submodule(f"conv{name[1:]}_x")

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> logits [B, num_classes]."""
        pooled = self.average_pool(self.pool(self.features(images)["c5"]))
        logits: Tensor = self.classifier(torch.flatten(pooled, 1))
        return logits
