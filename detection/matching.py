"""Which object, if any, each candidate box stands for (Ren et al. 2015, section 3.1.2), for a whole batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detection.boxes import coverage, iou
from detection.settings import SamplingSettings
from detection.targets import Targets

IGNORED_COVERAGE = 0.5
"""A candidate that lies to this share in a crowd or a difficult object is no background example."""


@dataclass(frozen=True)
class Matches:
    """The outcome for N candidates of each image.

    Attributes:
        positive: [B, N] bool, the candidate stands for object ``matched``.
        negative: [B, N] bool, it stands for background. Neither: it takes no part.
        matched: [B, N] int64, the best object; without meaning where there is none.
    """

    positive: Tensor
    negative: Tensor
    matched: Tensor


def match(candidates: Tensor, targets: Targets, settings: SamplingSettings) -> Matches:
    """Compare candidates with objects by IoU.

    Args:
        candidates: [N, 4], the same for all images, or [B, N, 4].
        targets: the objects.
        settings: the thresholds.
    """
    if candidates.dim() == 2:
        candidates = candidates.expand(targets.boxes.shape[0], -1, -1)
    overlaps = iou(targets.boxes, candidates)  # [B, G, N]
    overlaps = torch.where(targets.present[..., None], overlaps, -1.0)
    best, matched = overlaps.max(1)
    positive = best >= settings.positive_iou
    negative = (best < settings.negative_iou) & ((best >= settings.negative_floor) | (best < 0))
    if settings.keep_best:
        record = overlaps.amax(2, keepdim=True)
        positive = positive | ((overlaps == record) & (record > 0)).any(1)
    negative = negative & ~positive & ~_in_ignored(candidates, targets)
    return Matches(positive, negative, matched)


def _in_ignored(candidates: Tensor, targets: Targets) -> Tensor:
    covered = coverage(candidates, targets.boxes) >= IGNORED_COVERAGE  # [B, N, G]
    return (covered & targets.ignored[:, None]).any(2)
