"""Ensembles (appendix B): the union of all detectors' proposals, scored by each, the marks averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detection.proposals import Proposals
from detection.scoring import RegionScores, Scorer


def union(proposals: Sequence[Proposals]) -> Proposals:
    """All proposals of each image, one detector's after the other's."""
    exact = torch.stack([each.exact for each in proposals]).all(0)
    boxes = torch.cat([each.boxes for each in proposals], 1)
    return Proposals(boxes, torch.cat([each.valid for each in proposals], 1), exact)


def mean_scorer(scorers: Sequence[Scorer]) -> Scorer:
    """A scorer that gives the mean of class probabilities and of box regressions."""

    def score(boxes: Tensor, valid: Tensor) -> RegionScores:
        each = [scorer(boxes, valid) for scorer in scorers]
        probabilities = torch.stack([scores.probabilities for scores in each]).mean(0)
        return RegionScores(boxes, valid, probabilities, torch.stack([scores.deltas for scores in each]).mean(0))

    return score
