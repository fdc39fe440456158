"""What a segmenter finds. Torch or numpy alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SegmentationMap:
    """The class of every pixel of one picture [H, W], or of a padded batch [B, H, W].

    Attributes:
        labels: uint8 in 0..K-1.
        scores: float32 in 0..1, the probability of that label.
    """

    labels: Any
    scores: Any
