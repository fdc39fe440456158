"""Classification data that fits in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture


@dataclass(frozen=True)
class LabelledImages:
    """Pictures of one size with their labels.

    Attributes:
        images: [N, H, W, 3] uint8 RGB.
        labels: [N] int64, indices into ``classes``.
        classes: their names.
        mirrored: whether a mirrored picture still shows its class (a digit does not).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    mirrored: bool = True

    def picture(self, number: int) -> Picture:
        picture: Picture = self.images[number]
        return picture

    def subset(self, numbers: NDArray[np.int64]) -> LabelledImages:
        """Some of the pictures, in the order given."""
        return replace(self, images=self.images[numbers], labels=self.labels[numbers])
