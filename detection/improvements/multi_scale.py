"""Multi-scale testing with maxout (appendix B; Ren et al., "Object detection networks on convolutional feature maps").

The trunk sees the image at several sizes. Each region is pooled from the two adjacent scales at which it comes
closest to the 224 x 224 pixels of ImageNet pretraining, and the pooled features are merged by their maximum. Proposals
come from one scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detection.boxes import area
from detection.heads.contract import DetectionHead
from detection.operators import Operators
from detection.roi_pool import pool_regions
from detection.settings import PoolSettings

CANONICAL_SIZE = 224


@dataclass(frozen=True)
class TwoScalePooler:
    """Pools regions, given in pixels of the scale that proposals come from.

    Attributes:
        head: whose features they are.
        features: for each scale, smallest first, the levels that ``head.features`` gave.
        ratios: [B, S, 2], (height, width) of each image at each scale over those at the proposals' scale.
        operators: the form of RoIAlign.
    """

    head: DetectionHead
    features: Sequence[Sequence[Tensor]]
    ratios: Tensor
    operators: Operators

    def __call__(self, boxes: Tensor, settings: PoolSettings | None = None) -> Tensor:
        lower = lower_scale(boxes, self.ratios)
        if len(self.features) == 1:
            return self._pool(boxes, lower, settings or self.head.pool)
        pooled = (self._pool(boxes, scale, settings or self.head.pool) for scale in (lower, lower + 1))
        return torch.maximum(*pooled)

    def _pool(self, boxes: Tensor, scale: Tensor, settings: PoolSettings) -> Tensor:
        """Each region from its own scale. The levels of all scales stand side by side, the largest map first."""
        strides = self.head.pooled_strides
        ratio = self.ratios.gather(1, scale[..., None].expand(-1, -1, 2))
        scaled = boxes * ratio.flip(-1).repeat(1, 1, 2).to(boxes.dtype)
        levels = (len(self.features) - 1 - scale) * len(strides) + self.head.levels(scaled)
        features = [level for one_scale in reversed(self.features) for level in one_scale[: len(strides)]]
        return pool_regions(
            features, strides * len(self.features), scaled, levels, settings, self.operators.roi_align
        )  # fmt: skip


def lower_scale(boxes: Tensor, ratios: Tensor) -> Tensor:
    """The smaller of the two adjacent scales between which a region measures 224 x 224. [B, R, 4] -> [B, R] int64.

    Regions too large or too small for all scales take the first or the last two.

    Args:
        boxes: in pixels of the proposals' scale.
        ratios: [B, S, 2], rising along S.
    """
    linear = ratios.prod(2).sqrt()  # [B, S]
    size = area(boxes).clamp(min=1e-6).sqrt()
    smaller = size[..., None] * linear[:, None] <= CANONICAL_SIZE  # [B, R, S]: at these scales it is not larger
    return (smaller.sum(2) - 1).clamp(0, max(ratios.shape[1] - 2, 0))
