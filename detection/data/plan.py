"""Which images make which batch, at which size: a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backbones.data.order import EndlessOrder
from backbones.images import Size, fit_size, padded_size
from backbones.running.keyed_random import generator

GROUPED_BATCHES = 32
"""Portrait and landscape images are separated among so many batches at a time; more would shuffle less."""


@dataclass(frozen=True)
class BatchPlan:
    """One global batch, before any image is read.

    Attributes:
        step: its number.
        images: [B] indices into the data.
        shorter: the shorter side that each image is resized to.
        mirrored: whether each is mirrored.
        padded: (height, width) of the batch; the same on every process.
    """

    step: int
    images: NDArray[np.int64]
    shorter: tuple[int, ...]
    mirrored: tuple[bool, ...]
    padded: Size


class BatchPlanner:
    """Plans batches of similar aspect ratio from an endless shuffled order.

    Args:
        sizes: (height, width) of every image [N, 2].
        batch_size: images of a global batch.
        seed: of all draws.
        shorter: the shorter sides to draw from (scale jitter).
        longer: limit on the longer side.
        mirrored: whether to mirror half of the images.
        multiple: of which padded sizes are multiples.
        few_sizes: pad to one of at most three sizes, which hold all landscapes, all portraits, and both, whatever is
            drawn: for compiled steps, of which every size takes another.
    """

    def __init__(
        self,
        sizes: NDArray[np.int64],
        batch_size: int,
        seed: int,
        *,
        shorter: tuple[int, ...],
        longer: int,
        mirrored: bool,
        multiple: int = 32,
        few_sizes: bool = False,
    ) -> None:
        self.sizes, self.batch_size, self.seed = sizes, batch_size, seed
        self.shorter, self.longer, self.mirrored, self.multiple = shorter, longer, mirrored, multiple
        self._order = EndlessOrder(len(sizes), seed)
        self._portrait = sizes[:, 0] > sizes[:, 1]
        self._group: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._largest = {turned: self._largest_of(turned) for turned in (False, True)} if few_sizes else None

    def plan(self, step: int) -> BatchPlan:
        """The batch of step ``step`` (from 0)."""
        images = self._images(step)
        draws = [generator(self.seed, step, int(image)).random(2) for image in images]
        shorter = tuple(self.shorter[int(draw[0] * len(self.shorter))] for draw in draws)
        mirrored = tuple(self.mirrored and bool(draw[1] < 0.5) for draw in draws)
        if self._largest is None:
            sizes = [
                fit_size(self._size(image), side, self.longer) for image, side in zip(images, shorter, strict=True)
            ]
        else:
            sizes = [self._largest[turned] for turned in set(self._portrait[images].tolist())]
        return BatchPlan(step, images, shorter, mirrored, padded_size(_around(sizes), self.multiple))

    def _largest_of(self, portrait: bool) -> Size:
        """What holds every image of one orientation at the largest of the shorter sides."""
        each = np.unique(self.sizes[self._portrait == portrait], axis=0).tolist()
        return _around([fit_size((height, width), max(self.shorter), self.longer) for height, width in each])

    def _images(self, step: int) -> NDArray[np.int64]:
        """Cut the order into groups of batches, and sort each group's images by orientation."""
        group, within = divmod(step, GROUPED_BATCHES)
        if self._group[0] != group:
            length = self.batch_size * GROUPED_BATCHES
            images = self._order.at(group * length, length)
            by_aspect = images[np.argsort(self._portrait[images], kind="stable")].reshape(GROUPED_BATCHES, -1)
            shuffled = generator(self.seed, group, len(self.sizes)).permutation(GROUPED_BATCHES)
            self._group = (group, by_aspect[shuffled])
        return np.asarray(self._group[1][within])

    def _size(self, image: int) -> Size:
        height, width = self.sizes[image]
        return int(height), int(width)


def _around(sizes: Sequence[Size]) -> Size:
    """The least size that holds all."""
    return max((size[0] for size in sizes), default=0), max((size[1] for size in sizes), default=0)
