"""The order in which training meets its images: a function of the seed and the position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backbones.running.keyed_random import generator


class EndlessOrder:
    """Permutations of ``range(count)``, one after the other without end.

    Batches are cut across the borders of epochs, so all of them have the same size, and every image is met
    once before any is met again.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def at(self, position: int, length: int) -> NDArray[np.int64]:
        """The images at positions ``position`` to ``position + length``. [length] int64."""
        parts, end = [], position + length
        while position < end:
            epoch, within = divmod(position, self.count)
            taken = min(end - position, self.count - within)
            parts.append(self._permutation(epoch)[within : within + taken])
            position += taken
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            self._epochs = {kept: order for kept, order in self._epochs.items() if kept >= epoch - 1}
            self._epochs[epoch] = generator(self.seed, epoch).permutation(self.count)
        return self._epochs[epoch]
