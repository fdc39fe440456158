"""Masks of one picture as COCO's compressed text: an eighth of the memory of run lengths. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Size
from detection.masks.encoded import EncodedMasks
from detection.masks.run_length import RunLengthMasks, Runs

_LONGEST = 7
"""Characters of one number: 35 bits, more than any picture has pixels."""


def decompress(counts: bytes) -> Runs:
    """The runs that COCO's compressed text states, whatever they add up to.

    Args:
        counts: six bits a character from 48 on; five of a number, lowest first, and whether more follow. From the
            fourth run on, the number is the difference from the run before the last.

    Raises:
        ValueError: it is not well-formed.
    """
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("not COCO's compressed run lengths")
    ends = np.flatnonzero(digits & 32 == 0) + 1
    starts = np.concatenate(([0], ends[:-1]))
    if (ends - starts).max() > _LONGEST:
        raise ValueError("not COCO's compressed run lengths")
    shifts = 5 * (np.arange(len(digits)) - np.repeat(starts, ends - starts))
    runs: Runs = np.add.reduceat((digits & 31) << shifts, starts)
    negative = digits[ends - 1] & 16 != 0
    runs[negative] -= 1 << (5 * (ends - starts))[negative]
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


@dataclass(frozen=True)
class CompressedMasks:
    """D masks of one picture, as those of a whole data set wait to be scored. Indexing unpacks those it chooses.

    Attributes:
        size: (height, width) of the picture.
        encoded: the masks.
    """

    size: Size
    encoded: EncodedMasks

    @classmethod
    def of(cls, masks: RunLengthMasks) -> CompressedMasks:
        """The same masks, compressed."""
        texts = [item["counts"].encode("ascii") for item in masks.to_compressed_coco()]
        return cls(masks.size, EncodedMasks.join(texts))

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, chosen: Any) -> RunLengthMasks:
        """Those that a slice, or an array of indices or of booleans, chooses."""
        numbers = np.atleast_1d(np.arange(len(self))[chosen])
        return RunLengthMasks(self.size, tuple(decompress(self.encoded.counts(n)) for n in numbers))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].__array__(dtype, copy)

    def to_compressed_coco(self) -> list[dict[str, Any]]:
        """Each as results files hold it."""
        texts = (self.encoded.counts(number).decode("ascii") for number in range(len(self)))
        return [{"size": list(self.size), "counts": text} for text in texts]
