"""Masks of whole pictures as run lengths, COCO's way: down each column, zeros first. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Size

Runs = NDArray[np.int64]


@dataclass(frozen=True)
class RunLengthMasks:
    """D masks of one picture. ``np.asarray(masks)`` gives [D, H, W] bool; indexing chooses among them.

    Attributes:
        size: (height, width) of the picture.
        runs: for each mask the lengths of its runs of zeros, ones, zeros, ..., which add up to height * width.
    """

    size: Size
    runs: tuple[Runs, ...]

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, chosen: Any) -> RunLengthMasks:
        """Those that a slice, or an array of indices or of booleans, chooses."""
        picked = np.arange(len(self.runs))[np.asarray(chosen) if not isinstance(chosen, slice) else chosen]
        return RunLengthMasks(self.size, tuple(self.runs[number] for number in np.atleast_1d(picked)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        dense = np.zeros((len(self.runs), *self.size), bool)
        for number in range(len(self.runs)):
            dense[number] = self.dense(number)
        return dense if dtype is None else dense.astype(dtype)

    def dense(self, number: int) -> NDArray[np.bool_]:
        """One mask, [H, W]."""
        runs = self.runs[number]
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return np.ascontiguousarray(flat.reshape(self.size[::-1]).T)

    def cropped(self, number: int) -> tuple[int, int, NDArray[np.bool_]]:
        """One mask without the empty rows and columns around it: its top and left, and [h, w]."""
        runs, height = self.runs[number], self.size[0]
        start, end = int(runs[0]), int(runs[: len(runs) // 2 * 2].sum())  # of all ones
        left, right = start // height, -(-end // height)
        if start >= end:
            return 0, 0, np.zeros((0, 0), bool)
        inner = runs[: len(runs) // 2 * 2].copy()
        inner[0] -= left * height
        flat = np.zeros((right - left) * height, bool)
        flat[: end - left * height] = np.repeat(np.arange(len(inner)) % 2 == 1, inner)
        columns = flat.reshape(right - left, height)
        rows = np.flatnonzero(columns.any(0))
        return int(rows[0]), left, np.ascontiguousarray(columns[:, rows[0] : rows[-1] + 1].T)

    def areas(self) -> NDArray[np.int64]:
        """Pixels of each mask, [D]."""
        return np.array([runs[1::2].sum() for runs in self.runs], np.int64)

    def to_coco(self) -> list[dict[str, Any]]:
        """Each as COCO's uncompressed run-length encoding."""
        return [{"size": list(self.size), "counts": runs.tolist()} for runs in self.runs]

    def to_compressed_coco(self) -> list[dict[str, Any]]:
        """Each as COCO's compressed run-length encoding, with ``counts`` as text, as results files hold it."""
        return [{"size": list(self.size), "counts": _compress(runs)} for runs in self.runs]

    @classmethod
    def from_dense(cls, masks: NDArray[np.bool_]) -> RunLengthMasks:
        """[D, H, W] bool -> the same, encoded."""
        size = (masks.shape[1], masks.shape[2])
        return cls(size, tuple(encode_window(mask, 0, 0, size) for mask in masks))


def encode_window(window: NDArray[np.bool_], top: int, left: int, size: Size) -> Runs:
    """The runs of a mask that is set nowhere but in a window.

    Args:
        window: [h, w] bool.
        top, left: where it lies.
        size: (height, width) of the picture.
    """
    height, width = size
    columns = np.zeros((window.shape[1], window.shape[0] + 2), bool)  # a zero above and below ends every run
    columns[:, 1:-1] = window.T
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    edges = (left + column) * height + top + row  # starts and ends in turn, by column
    # A run that ends where the next begins goes on from the foot of one column to the head of the next.
    meets = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    edges = np.delete(edges, np.concatenate((meets, meets + 1)))
    if not len(edges) or edges[-1] < height * width:  # the last run is of zeros, and there are some
        edges = np.append(edges, height * width)
    return np.diff(edges, prepend=0).astype(np.int64)


def _compress(runs: Runs) -> str:
    """COCO's text for runs: differences from the run before the last, in groups of five bits, lowest first.

    A group is a character from 48 on; 32 more say that another follows. The last group's top bit is the sign.
    """
    steps = runs.copy()
    steps[3:] -= runs[1:-2]
    shifts = 5 * np.arange(7)  # 35 bits, more than any picture has pixels
    groups = steps[:, None] >> shifts
    last = (groups >> 5) == -((groups >> 4) & 1)  # what remains only repeats the sign
    written = np.ones(groups.shape, bool)
    written[:, 1:] = ~last[:, :-1]
    characters = (groups & 31) + 48 + 32 * ~last
    return str(characters[written].astype(np.uint8).tobytes(), "ascii")


def concatenate(parts: Sequence[RunLengthMasks]) -> RunLengthMasks:
    """Masks of the same picture, one list after the other."""
    return RunLengthMasks(parts[0].size, tuple(runs for part in parts for runs in part.runs))
