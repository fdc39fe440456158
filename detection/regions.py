"""The second stage: classes and boxes of regions (Girshick 2015), from the vectors that a head makes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.running.keyed_random import uniform
from detection.boxes import ROI_WEIGHTS, encode
from detection.loss_counts import count_of
from detection.losses import smooth_l1
from detection.matching import match
from detection.proposals import Proposals
from detection.sampling import draw
from detection.settings import SamplingSettings
from detection.targets import Targets


class BoxPredictor(nn.Module):
    """Two sibling linear layers: K+1 classes, background first, and four deltas for each class.

    [..., D] -> logits [..., K + 1], deltas [..., K, 4].
    """

    def __init__(self, vector: int, classes: int) -> None:
        super().__init__()
        self.classes = nn.Linear(vector, classes + 1)
        self.deltas = nn.Linear(vector, classes * 4)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.classes.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(vectors), self.deltas(vectors).unflatten(-1, (-1, 4))


@dataclass(frozen=True)
class RegionTargets:
    """R regions of each image to learn from.

    Attributes:
        boxes: [B, R, 4].
        labels: [B, R] int64: 0 background, 1 + class for objects.
        objects: [B, R, 4], the box that a positive region shall become.
        matched: [B, R] int64, the slot of that object.
        valid: [B, R] bool.
    """

    boxes: Tensor
    labels: Tensor
    objects: Tensor
    matched: Tensor
    valid: Tensor

    def first(self, count: int) -> RegionTargets:
        """The first regions of each image; positive ones come first."""
        return RegionTargets(*(getattr(self, item.name)[:, :count] for item in fields(self)))


@torch.no_grad()
def sample_regions(proposals: Proposals, targets: Targets, settings: SamplingSettings) -> RegionTargets:
    """Match proposals, and the objects themselves, with the objects, and draw R of them (Girshick 2015, 2.3)."""
    candidates = torch.cat((proposals.boxes, targets.boxes), 1)
    usable = torch.cat((proposals.valid, targets.present), 1)
    matches = match(candidates, targets, settings)
    matches = type(matches)(matches.positive & usable, matches.negative & usable, matches.matched)
    samples = draw(matches, settings, uniform(targets.keys, _place(candidates)))
    matched = matches.matched.gather(1, samples.index)
    labels = torch.where(samples.positive, 1 + targets.labels.gather(1, matched), 0)
    wide = samples.index[..., None].expand(-1, -1, 4)
    objects = torch.gather(targets.boxes, 1, matched[..., None].expand(-1, -1, 4))
    return RegionTargets(candidates.gather(1, wide), labels, objects, matched, samples.valid)


def _place(boxes: Tensor) -> Tensor:
    """A number for each box by its place in whole pixels: its rank would change with the last bit of a score, and with
    it, between one process and several, what is drawn. [..., 4] -> [...] int64."""
    x1, y1, x2, y2 = boxes.round().long().unbind(-1)
    return ((x1 * 8191 + y1) * 8191 + x2) * 8191 + y2


def region_losses(
    logits: Tensor, deltas: Tensor, regions: RegionTargets, beta: float, count: Tensor | None = None
) -> dict[str, Tensor]:
    """Equation 1 of Fast R-CNN: both terms are means over the drawn regions of the global batch.

    Args:
        logits: [B, R, K + 1].
        deltas: [B, R, K, 4].
        regions: what they should be.
        beta: of the smooth L1 loss.
        count: the number of drawn regions to divide by, if it is known.
    """
    labels, valid = regions.labels.reshape(-1), regions.valid.reshape(-1)
    count = count_of(valid, count)
    classes = functional.cross_entropy(logits.float().flatten(0, 1), labels, reduction="none")
    own = (labels - 1).clamp(min=0)[:, None, None].expand(-1, 1, 4)
    chosen = deltas.float().flatten(0, 1).gather(1, own)[:, 0]
    wanted = encode(regions.objects.reshape(-1, 4), regions.boxes.reshape(-1, 4), ROI_WEIGHTS)
    boxes = smooth_l1(chosen - wanted, beta).sum(-1)
    return {
        "classes": torch.where(valid, classes, 0.0).sum() / count,
        "boxes": torch.where(valid & (labels > 0), boxes, 0.0).sum() / count,
    }
