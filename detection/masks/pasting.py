"""From the small grids that a mask branch gives to masks of the picture (He et al. 2017, section 3.1). Numpy only.

Each grid is enlarged to its own box, never to the picture, so memory is that of one object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backbones.images import Size
from detection.masks.run_length import RunLengthMasks, Runs, encode_window

Floats = NDArray[np.float32]
THRESHOLD = 0.5


def paste(grids: Floats, boxes: Floats, size: Size) -> RunLengthMasks:
    """Masks where the grids, stretched over their boxes, reach one half.

    Args:
        grids: [D, m, m], probabilities.
        boxes: [D, 4], in pixels of the picture.
        size: (height, width) of the picture.
    """
    return RunLengthMasks(size, tuple(_paste_one(grid, box, size) for grid, box in zip(grids, boxes, strict=True)))


def whole_pixel_boxes(boxes: Floats, cells: int) -> Floats:
    """The boxes into which torchvision pastes. [D, 4] -> [D, 4].

    It surrounds the grid with one cell of nothing, enlarges the box by as much, cuts its corners to whole numbers, and
    counts the last pixel in; this is where the grid itself comes to lie.
    """
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    around = half * np.float32((cells + 2) / cells)
    low, high = np.trunc(centre - around), np.trunc(centre + around)
    cell = (high - low + 1) / (cells + 2)
    framed: Floats = np.concatenate((low + cell, high + 1 - cell), 1).astype(np.float32)
    return framed


def _paste_one(grid: Floats, box: Floats, size: Size) -> Runs:
    top, bottom, rows = _stretch(float(box[1]), float(box[3]), size[0], grid.shape[0])
    left, right, columns = _stretch(float(box[0]), float(box[2]), size[1], grid.shape[1])
    if bottom <= top or right <= left:
        return np.array([size[0] * size[1]], np.int64)
    return encode_window(rows @ grid @ columns.T >= THRESHOLD, top, left, size)


def _stretch(low: float, high: float, limit: int, cells: int) -> tuple[int, int, Floats]:
    """The pixels that an interval touches, and each one's shares of the cells (linear between their centres)."""
    first, last = max(0, int(np.floor(low))), min(limit, int(np.ceil(high)))
    centres = np.arange(first, last, dtype=np.float32) + 0.5
    position = (centres - low) / max(high - low, 1e-6) * cells - 0.5
    shares = 1 - np.abs(position[:, None] - np.arange(cells, dtype=np.float32))
    return first, last, np.clip(shares, 0, None).astype(np.float32)
