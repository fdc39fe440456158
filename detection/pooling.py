"""The features of one batch of images, ready to have regions pooled from them."""

from __future__ import annotations

from collections.abc import Sequence
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


class SingleScalePooler:
    """One scale. A plain class, for it is built inside compiled steps: torch 2.11 traces no dataclass that is called.

    Args:
        head: whose features they are.
        features: the levels that ``head.features`` gave.
        operators: the form of RoIAlign.
    """

    def __init__(self, head: DetectionHead, features: Sequence[Tensor], operators: Operators) -> None:
        self.head, self.features, self.operators = head, features, operators

    def __call__(self, boxes: Tensor, settings: PoolSettings | None = None) -> Tensor:
        strides = self.head.pooled_strides
        return pool_regions(
            self.features[: len(strides)], strides, boxes, self.head.levels(boxes), settings or self.head.pool,
            self.operators.roi_align,
        )  # fmt: skip
