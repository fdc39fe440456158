"""Which images make which batch, at which scale, and which part of them: a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backbones.data.order import EndlessOrder
from backbones.images import Size, fit_size
from backbones.running.keyed_random import generator


@dataclass(frozen=True)
class Crop:
    """A part of an image.

    Attributes:
        size: (height, width) that the whole image is resized to.
        top, left: where the crop begins in it.
        mirrored: whether the crop is mirrored.
    """

    size: Size
    top: int
    left: int
    mirrored: bool


@dataclass(frozen=True)
class CropPlan:
    """One global batch, before any image is read.

    Attributes:
        step: its number.
        images: [B] indices into the data.
        crops: one for each of them.
    """

    step: int
    images: NDArray[np.int64]
    crops: tuple[Crop, ...]


class CropPlanner:
    """Plans batches of square crops from an endless shuffled order: scale, place and mirroring drawn for each image.

    Args:
        sizes: (height, width) of every image [N, 2].
        batch_size: images of a global batch.
        seed: of all draws.
        side: of a crop; smaller images are padded.
        shorter: sides to draw from, of an image at scale 1.
        longer: limit on its longer side.
        scales: the least and the largest scale.
        mirrored: whether to mirror half of the images.
    """

    def __init__(
        self,
        sizes: NDArray[np.int64],
        batch_size: int,
        seed: int,
        *,
        side: int,
        shorter: Sequence[int],
        longer: int,
        scales: tuple[float, float],
        mirrored: bool,
    ) -> None:
        self.sizes, self.batch_size, self.seed = sizes, batch_size, seed
        self.side, self.shorter, self.longer = side, shorter, longer
        self.scales, self.mirrored = scales, mirrored
        self._order = EndlessOrder(len(sizes), seed)

    def plan(self, step: int) -> CropPlan:
        """The batch of step ``step`` (from 0)."""
        images = self._order.at(step * self.batch_size, self.batch_size)
        return CropPlan(step, images, tuple(self._crop(step, int(image)) for image in images))

    def _crop(self, step: int, image: int) -> Crop:
        scale, down, across, mirror, drawn = generator(self.seed, step, image).random(5)
        scale = self.scales[0] + scale * (self.scales[1] - self.scales[0])
        height, width = self.sizes[image]
        shorter = self.shorter[int(drawn * len(self.shorter))]
        sides = (max(1, round(side * scale)) for side in (shorter, self.longer))
        size = fit_size((int(height), int(width)), *sides)
        top, left = (
            int(draw * (max(0, extent - self.side) + 1)) for draw, extent in zip((down, across), size, strict=True)
        )
        return Crop(size, top, left, self.mirrored and bool(mirror < 0.5))
