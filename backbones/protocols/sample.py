"""Pictures of a data set, framed as for testing, in batches that can be gone through again and again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.convention import InputConvention
from backbones.data.labelled import LabelledPictures
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.protocols.reading import map_ahead
from backbones.running.keyed_random import generator


def draw_numbers(count: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """``wanted`` of the numbers below ``count``, drawn without repetition and sorted; all of them if 0 or too many."""
    if not 0 < wanted < count:
        return np.arange(count)
    return np.sort(generator(seed, count).permutation(count)[:wanted])


class FramedSample:
    """Batches [B, 3, H, W] uint8 on a device, the same on every iteration.

    Args:
        data: where the pictures are.
        numbers: which of them.
        convention: how they are framed; it has a size.
        batch_size: B; the last batch may have fewer.
        device: where the batches shall be.
        workers: threads that read ahead.
        keep: hold the framed pictures in memory (150 kB each at 224 x 224) in place of reading them every time.
    """

    def __init__(
        self,
        data: LabelledPictures,
        numbers: NDArray[np.int64],
        convention: InputConvention,
        batch_size: int,
        device: torch.device,
        workers: int = 0,
        keep: bool = False,
    ) -> None:
        self._data, self._numbers, self._convention = data, numbers, convention
        self._batch_size, self._device, self._workers = batch_size, device, workers
        self._kept: list[Picture] | None = [] if keep else None

    def __len__(self) -> int:
        return -(-len(self._numbers) // self._batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        whole = self._kept if self._kept and len(self._kept) == len(self) else None
        for batch in whole or self._read():
            yield torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)

    def _read(self) -> Iterator[Picture]:
        starts = range(0, len(self._numbers), self._batch_size)
        read: list[Picture] = []
        for start in starts:
            numbers = self._numbers[start : start + self._batch_size]
            batch = np.stack(list(map_ahead(self._framed, numbers.tolist(), self._workers)))
            if self._kept is not None:
                read.append(batch)
            yield batch
        if self._kept is not None:
            self._kept = read

    def _framed(self, number: int) -> Picture:
        return frame_for_classifier(self._data.picture(number), self._convention)
