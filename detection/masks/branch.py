"""The mask branch: a small grid of probabilities for each region and class (He et al. 2017, section 3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from detection.loss_counts import count_of
from detection.settings import MaskSettings


class MaskBranch(nn.Module):
    """Convolutions, one deconvolution that doubles the resolution, and a map for each class.

    [N, C, s, s] -> logits [N, K, 2s, 2s].

    Args:
        inputs: channels that come in.
        classes: K.
        settings: width and number of convolutions.
    """

    def __init__(self, inputs: int, classes: int, settings: MaskSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = [inputs, *[settings.channels] * settings.convs]
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.deconv = nn.ConvTranspose2d(widths[-1], settings.channels, 2, stride=2)
        self.logits = nn.Conv2d(settings.channels, classes, 1)
        self.relu = nn.ReLU(inplace=True)
        for layer in (*self.convs, self.deconv, self.logits):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.logits.weight, std=0.001)

    def forward(self, maps: Tensor) -> Tensor:
        for conv in self.convs:
            maps = self.relu(conv(maps))
        logits: Tensor = self.logits(self.relu(self.deconv(maps)))
        return logits


def mask_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """The map of each region's own class. [B * D, K, m, m], [B, D] -> [B, D, m, m] in 0..1."""
    own = labels.reshape(-1)[:, None, None, None].expand(-1, 1, *logits.shape[2:])
    return logits.float().gather(1, own).sigmoid().reshape(*labels.shape, *logits.shape[2:])


def mask_loss(logits: Tensor, wanted: Tensor, labels: Tensor, positive: Tensor, count: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of each positive region's own class, the mean over cells and regions of the global batch.

    Args:
        logits: [N, K, m, m].
        wanted: [N, m, m] in 0..1.
        labels: [N] int64 in 0..K-1; without meaning where not positive.
        positive: [N] bool.
        count: the number of positive regions to divide by, if it is known.
    """
    count = count_of(positive, count)
    own = labels.clamp(min=0)[:, None, None, None].expand(-1, 1, *logits.shape[2:])
    chosen = logits.float().gather(1, own)[:, 0]
    each = functional.binary_cross_entropy_with_logits(chosen, wanted, reduction="none").mean((1, 2))
    return torch.where(positive, each, 0.0).sum() / count


@torch.no_grad()
def mask_targets(grids: Tensor, objects: Tensor, regions: Tensor, size: int) -> Tensor:
    """What the branch should say: each region's view of its object's mask, in ``size`` x ``size`` cells of 0 or 1.

    Args:
        grids: [N, M, M] uint8, the objects' coverage of the cells of their own boxes (``Targets.masks``).
        objects: [N, 4], the objects' boxes.
        regions: [N, 4].
        size: m.
    """
    extent = (objects[:, 2:] - objects[:, :2]).clamp(min=1e-3)
    low = (regions[:, :2] - objects[:, :2]) / extent  # the region in parts of the object's box
    length = (regions[:, 2:] - regions[:, :2]) / extent
    steps = (torch.arange(size, device=grids.device, dtype=objects.dtype) + 0.5) / size
    at = low[:, None] + length[:, None] * steps[:, None]  # [N, m, 2]
    x, y = at[:, None, :, 0].expand(-1, size, -1), at[:, :, None, 1].expand(-1, -1, size)
    places = torch.stack((x, y), -1) * 2 - 1
    sampled = functional.grid_sample(grids[:, None].to(objects.dtype), places, align_corners=False)
    return (sampled[:, 0] >= 127.5).to(objects.dtype)
