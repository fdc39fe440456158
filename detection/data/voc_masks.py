"""Instance masks of VOC: ``SegmentationObject/*.png``, matched to the boxes of the XML files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from backbones.errors import InputError
from backbones.images import Size

FOLDER = "SegmentationObject"
_VOID = 255
_VOID_COLOUR = 0xE0E0C0
"""What the void number has in VOC's palette, where a picture was saved without one."""
_LEAST_OVERLAP = 0.5


def read_instances(path: Path, size: Size) -> NDArray[np.int64]:
    """The number of the instance that each pixel belongs to, [H, W]; 0 for none, and for the void between them.

    Args:
        path: a palette or greyscale PNG of instance numbers, or a colour one with a colour for each instance.
        size: (height, width) of the photograph.

    Raises:
        InputError: it cannot be read, or has another size.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.size != size[::-1]:
                raise InputError(f"{path}: {image.width} x {image.height} pixels, the picture {size[1]} x {size[0]}")
            pixels = np.asarray(image if image.mode in ("P", "L") else image.convert("RGB")).astype(np.int64)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a PNG picture that can be read") from error
    if pixels.ndim == 3:
        pixels = pixels @ np.array([1 << 16, 1 << 8, 1])
        void = _VOID_COLOUR
    else:
        void = _VOID
    return np.where(pixels == void, 0, pixels)


def match_instances(instances: NDArray[np.int64], boxes: NDArray[np.float64]) -> list[bytes | None]:
    """The mask of each box, as COCO's compressed ``counts``; None for a box that no instance fits.

    The pair whose extent and box overlap most comes first; each instance goes to one box, at an overlap (IoU) of at
    least a half.

    Args:
        instances: [H, W], 0 for no instance.
        boxes: [n, 4], half-open.
    """
    from pycocotools import mask as rle

    numbers = np.unique(instances)
    numbers = numbers[numbers != 0]
    extents = np.array([_extent(instances == number) for number in numbers], np.float64).reshape(-1, 4)
    overlaps = _overlaps(extents, boxes)
    found: list[bytes | None] = [None] * len(boxes)
    while overlaps.size and overlaps.max() >= _LEAST_OVERLAP:
        instance, box = np.unravel_index(overlaps.argmax(), overlaps.shape)
        mask = np.asfortranarray((instances == numbers[instance]).astype(np.uint8))
        found[box] = rle.encode(mask)["counts"]
        overlaps[instance], overlaps[:, box] = 0, 0
    return found


def _extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of all pairs, [len(a), len(b)]."""
    corners = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = np.clip(corners, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    return np.asarray(common / (areas[0][:, None] + areas[1] - common))
