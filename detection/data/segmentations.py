"""What COCO's files call ``segmentation``, as compressed run lengths at the size of the picture.

Files come from strangers and pycocotools checks nothing, so all that it gets is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Size
from detection.masks.compressed import decompress

_FAR = 4
"""A polygon may reach so many pictures' sizes beyond the edge."""
_LONGEST = 2_000_000
"""And its outline may be so many pixels long: pycocotools lists them all."""


class UnusableMaskError(ValueError):
    """Why there is no mask, in a few words."""


def encode_segmentation(segmentation: Any, size: Size, *, empty: bool = False) -> bytes:
    """Polygons, uncompressed or compressed run lengths -> COCO's compressed ``counts``.

    Args:
        segmentation: ``[[x1, y1, x2, y2, ...], ...]``, ``{"size": [h, w], "counts": [...]}`` or the same with text.
        size: (height, width) of the picture.
        empty: run lengths may cover no pixel, as detections' do.

    Raises:
        UnusableMaskError: it is absent, empty, of another size, or not well-formed.
    """
    if not segmentation:
        raise UnusableMaskError("has no mask")
    if isinstance(segmentation, list):
        return encode_polygons(segmentation, size)
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise UnusableMaskError("its mask is neither polygons nor run lengths")
    if segmentation.get("size") != list(size):
        raise UnusableMaskError(f"its mask has size {segmentation.get('size')}, the picture {list(size)}")
    counts = segmentation["counts"]
    runs = _uncompressed(counts) if isinstance(counts, list) else _decompressed(counts)
    if not len(runs) or runs.min() < 0 or runs.sum() != size[0] * size[1]:
        raise UnusableMaskError(f"its mask's run lengths do not add up to {size[0] * size[1]} pixels")
    if not empty and not runs[1::2].any():
        raise UnusableMaskError("its mask is empty")
    if isinstance(counts, str):
        return counts.encode()
    from pycocotools import mask as rle

    return bytes(rle.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"])


def encode_polygons(polygons: Sequence[Any], size: Size) -> bytes:
    """The union of polygons ``[x1, y1, x2, y2, ...]`` -> compressed ``counts``; as ``encode_segmentation``."""
    from pycocotools import mask as rle

    if not polygons:
        raise UnusableMaskError("has no mask")
    height, width = size
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6:
            raise UnusableMaskError("its mask has a polygon of less than 3 points")
        if len(polygon) % 2:
            raise UnusableMaskError("its mask has a polygon with an x without y")
        try:
            near = _is_near(polygon[::2], width) and _is_near(polygon[1::2], height)
        except TypeError:
            raise UnusableMaskError("its mask has a polygon that is not all numbers") from None
        if not near:
            raise UnusableMaskError(f"its mask has a polygon far outside the picture of {width} x {height} pixels")
        if len(polygon) * max(size) > _LONGEST and _outline(polygon) > _LONGEST:
            raise UnusableMaskError("its mask has a polygon with an endless outline")
    parts = rle.frPyObjects(polygons, height, width)
    whole = parts[0] if len(parts) == 1 else rle.merge(parts)
    if not rle.area(whole):
        raise UnusableMaskError("its mask covers no pixel")
    return bytes(whole["counts"])


def _is_near(edges: list[float], length: int) -> bool:
    """Whether coordinates are numbers near the picture; of sums, only that of not-a-number differs from itself."""
    total = sum(edges)
    return -_FAR * length <= min(edges) and max(edges) <= (_FAR + 1) * length and total == total


def _outline(polygon: list[float]) -> float:
    points = np.array(polygon, np.float64).reshape(-1, 2)
    return float(np.abs(np.diff(points, axis=0, append=points[:1])).max(1).sum())


def _uncompressed(counts: list[Any]) -> NDArray[np.int64]:
    try:
        runs = np.array(counts)
    except (ValueError, OverflowError):
        runs = np.empty(0)
    if runs.ndim != 1 or not np.issubdtype(runs.dtype, np.integer):
        raise UnusableMaskError("its mask's run lengths are not whole numbers")
    return runs.astype(np.int64)


def _decompressed(counts: Any) -> NDArray[np.int64]:
    try:
        return decompress(counts.encode("ascii", "replace") if isinstance(counts, str) else b"")
    except ValueError:
        raise UnusableMaskError("its mask's run lengths are not COCO's") from None
