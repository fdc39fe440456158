"""Drawing a fixed number of positive and negative candidates of each image, without loops or changing shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detection.matching import Matches
from detection.settings import SamplingSettings


@dataclass(frozen=True)
class Samples:
    """S drawn candidates of each image.

    Attributes:
        index: [B, S] int64 into the candidates.
        positive: [B, S] bool.
        valid: [B, S] bool; False pads images with too few candidates.
    """

    index: Tensor
    positive: Tensor
    valid: Tensor


def draw(matches: Matches, settings: SamplingSettings, randomness: Tensor) -> Samples:
    """At most ``count * positive_fraction`` positives, and negatives up to ``count`` in all.

    Args:
        matches: of N candidates.
        settings: the numbers.
        randomness: [B, N] in [0, 1): the candidates with the largest numbers are drawn.
    """
    total = matches.positive.shape[1]
    most = min(int(settings.count * settings.positive_fraction), total)
    order = torch.where(matches.positive, randomness, -1.0)
    drawn = torch.zeros_like(matches.positive).scatter(1, order.topk(most, 1).indices, True) & matches.positive
    priority = torch.where(drawn, 2 + randomness, torch.where(matches.negative, 1 + randomness, 0.0))
    priority, index = priority.topk(min(settings.count, total), 1)
    return Samples(index, priority >= 2, priority >= 1)
