"""Box refinement (appendix B): a regressed box is a better region, so it is scored and regressed once more."""

from __future__ import annotations

from torch import Tensor

from detection.scoring import RegionScores, Scorer


def refine(regions: RegionScores, score: Scorer, sizes: Tensor) -> RegionScores:
    """The regions together with their refined selves; both enter suppression.

    Regressions are class-specific: each region becomes what its best class makes of it.

    Args:
        regions: scored proposals.
        score: the second stage.
        sizes: (height, width) of each image [B, 2].
    """
    return regions.joined(score(regions.best_boxes(sizes), regions.valid))
