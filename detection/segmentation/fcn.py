"""A fully convolutional network (Long et al. 2015) on a dilated backbone: the same module trains and exports."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.batch_norm import convolve
from backbones.blocks import conv3x3
from backbones.contract import Backbone
from backbones.normalization import Normalize
from backbones.running.distributed import mean_over_processes
from detection.segmentation.maps import SegmentationMap
from detection.segmentation.settings import IGNORED, SegmenterSettings
from detection.targets import SegmentationTargets

AUXILIARY_WEIGHT = 0.5
"""torchvision's; Zhao et al. take 0.4."""


class FCNHead(nn.Module):
    """A 3x3 convolution with batch normalization and ReLU, dropout, and a linear layer at each position.

    [B, C, h, w] -> [B, K, h, w]. These are the layers of torchvision's head, initialized as there: with the small last
    layer of detectors the backbone would learn next to nothing for hundreds of steps.
    """

    def __init__(self, in_channels: int, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, channels)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(dropout)
        self.classes = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.drop(self.relu(convolve(x, self.conv, self.bn))))
        return logits

    def convolution_pairs(self) -> list[tuple[str, str]]:
        return [("conv", "bn")]


class FCN(nn.Module):
    """Image -> features -> logits -> the class of every pixel.

    ``losses`` trains, ``segment`` finds (also as ``fcn(images, sizes)``); both take a padded batch of raw pixels.

    Args:
        settings: what this segmenter is; it travels with the weights.
        normalize: pixels to network input.
        backbone: dilated.
        head: fitting the backbone's last map.
        auxiliary: fitting the map before it; None for none.
    """

    def __init__(
        self,
        settings: SegmenterSettings,
        normalize: Normalize,
        backbone: Backbone,
        head: FCNHead,
        auxiliary: FCNHead | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.normalize = normalize
        self.backbone = backbone
        self.head = head
        self.auxiliary = auxiliary
        *_, self.map_before, self.last_map = backbone.out_channels

    def losses(self, images: Tensor, targets: SegmentationTargets) -> dict[str, Tensor]:
        """Cross entropy, a mean over the labelled pixels of the global batch; that of the auxiliary head, weighted.

        Args:
            images: [B, 3, H, W] uint8 RGB, padded.
            targets: labels of every pixel.
        """
        maps = self.backbone.features(self.normalize(images, targets.sizes))
        losses = {"pixels": pixel_loss(self.head(maps[self.last_map]), targets.labels)}
        if self.auxiliary is not None:
            loss = pixel_loss(self.auxiliary(maps[self.map_before]), targets.labels)
            losses["auxiliary"] = AUXILIARY_WEIGHT * loss
        return losses

    def logits(self, images: Tensor, sizes: Tensor) -> Tensor:
        """[B, 3, H, W] uint8 RGB, padded, and valid sizes [B, 2] -> [B, K, H, W] float32."""
        maps = self.backbone.features(self.normalize(images, sizes))
        return enlarge(self.head(maps[self.last_map]), images)

    def segment(self, images: Tensor, sizes: Tensor) -> SegmentationMap:
        """The most probable class of every pixel of a padded batch, [B, H, W]; what lies in the padding means nothing.

        Args:
            images: [B, 3, H, W] uint8 RGB, padded to a multiple of the coarsest stride.
            sizes: (height, width) of the valid area of each [B, 2].
        """
        logits = self.logits(images, sizes)
        best, labels = logits.max(1)
        return SegmentationMap(labels.to(torch.uint8), (best - logits.logsumexp(1)).exp())

    def forward(self, images: Tensor, sizes: Tensor) -> SegmentationMap:
        return self.segment(images, sizes)


def enlarge(logits: Tensor, like: Tensor) -> Tensor:
    """Bilinear: [B, K, h, w] -> [B, K, H, W] float32, of the height and width of ``like`` [..., H, W]."""
    return functional.interpolate(logits.float(), like.shape[-2:], mode="bilinear", align_corners=False)


def pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [B, K, h, w], enlarged to labels [B, H, W] uint8 -> a scalar; 0 where no pixel is labelled."""
    count = mean_over_processes((labels != IGNORED).sum().float()).clamp(min=1)
    total = functional.cross_entropy(enlarge(logits, labels), labels.long(), ignore_index=IGNORED, reduction="sum")
    return total / count
