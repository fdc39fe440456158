"""The features of one batch of images, ready to have regions pooled from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from detection.heads.contract import DetectionHead
from detection.operators import Operators
from detection.roi_pool import pool_regions
from detection.settings import PoolSettings


class RegionPooler(Protocol):
    """Pools regions: at one scale, or at several (``improvements/multi_scale.py``)."""

    def __call__(self, boxes: Tensor, settings: PoolSettings | None = None) -> Tensor:
        """Regions [B, R, 4] in pixels of the batch -> [B * R, C, size, size]; by default as the head pools."""


@dataclass(frozen=True)
class SingleScalePooler:
    """One scale.

    Attributes:
        head: whose features they are.
        features: the levels that ``head.features`` gave.
        operators: the form of RoIAlign.
    """

    head: DetectionHead
    features: Sequence[Tensor]
    operators: Operators

    def __call__(self, boxes: Tensor, settings: PoolSettings | None = None) -> Tensor:
        strides = self.head.pooled_strides
        return pool_regions(
            self.features[: len(strides)], strides, boxes, self.head.levels(boxes), settings or self.head.pool,
            self.operators.roi_align,
        )  # fmt: skip
