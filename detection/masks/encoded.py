"""Masks of a whole data set in flat memory: COCO's compressed run lengths, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Size


@dataclass(frozen=True)
class EncodedMasks:
    """M masks; each is as large as its picture.

    Attributes:
        text: [T] uint8, COCO's compressed run lengths.
        first: [M + 1] int64: mask i is ``text[first[i]:first[i + 1]]``; an empty one means that there is none.
    """

    text: NDArray[np.uint8]
    first: NDArray[np.int64]

    @classmethod
    def join(cls, masks: Sequence[bytes]) -> EncodedMasks:
        """From COCO's ``counts`` of each mask; ``b""`` where an object has none."""
        first = np.concatenate(([0], np.cumsum([len(mask) for mask in masks], dtype=np.int64)))
        return cls(np.frombuffer(b"".join(masks), np.uint8), first.astype(np.int64))

    def __len__(self) -> int:
        return len(self.first) - 1

    def rows(self, start: int, stop: int) -> EncodedMasks:
        """Masks ``start`` to ``stop``, without a copy."""
        return EncodedMasks(self.text, self.first[start : stop + 1])

    def counts(self, number: int) -> bytes:
        """COCO's ``counts`` of one mask."""
        return self.text[self.first[number] : self.first[number + 1]].tobytes()

    def to_coco(self, number: int, size: Size) -> dict[str, Any]:
        """One mask as pycocotools takes it."""
        return {"size": list(size), "counts": self.counts(number)}

    def extent(self, number: int, size: Size) -> NDArray[np.float64]:
        """The box of one mask, [4], half-open; all zeros of an empty one."""
        from pycocotools import mask

        x, y, width, height = mask.toBbox(self.to_coco(number, size))
        return np.array([x, y, x + width, y + height], np.float64)

    def dense(self, number: int, size: Size) -> NDArray[np.bool_]:
        """One mask, [H, W]."""
        from pycocotools import mask

        decoded: NDArray[np.uint8] = mask.decode(self.to_coco(number, size))
        return decoded.astype(bool)
