"""What a segmenter finds. Torch or numpy alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backbones.images import Picture
from detection.drawn_result import DrawnResult

_LISTED = 8
"""Classes that a representation names."""


@dataclass(frozen=True, repr=False)
class SegmentationMap(DrawnResult):
    """The class of every pixel of one picture [H, W], or of a padded batch [B, H, W].

    Attributes:
        labels: uint8 in 0..K-1.
        scores: float32 in 0..1, the probability of that label.
        classes: names by label, where a model found them.
        source: what ``predict`` was given: a path, bytes, an array, ...; not copied, and not pickled but for paths.
    """

    labels: Any
    scores: Any
    classes: tuple[str, ...] = ()
    source: Any = field(default=None, compare=False)

    def to_json(self, classes: Sequence[str] = ()) -> dict[str, float]:
        """The part of the pixels that each class has, of those that are there, in the order of the labels.

        Args:
            classes: names by label; by default the model's, or the labels' numbers.
        """
        known = classes or self.classes
        counts = np.bincount(np.asarray(self.labels).reshape(-1)).tolist()
        shares = ((label, round(count / sum(counts), 6)) for label, count in enumerate(counts) if count)
        return {known[label] if known else str(label): share for label, share in shares}

    def draw(self, picture: Any = None) -> Picture:
        from detection.segmentation.drawing import draw_labels

        labels = np.asarray(self.labels)
        return draw_labels(self._picture(picture, labels.shape), labels, self.classes)

    def __repr__(self) -> str:
        shares = sorted(self.to_json().items(), key=lambda item: -item[1])
        listed = [f"{name} {share:.0%}" for name, share in shares[:_LISTED]] + ["..."] * (len(shares) > _LISTED)
        extent = " x ".join(map(str, self.labels.shape))
        return f"SegmentationMap({', '.join(listed)}; {extent})"
