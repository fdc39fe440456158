"""Which part of a picture training looks at: pure functions of a few draws and the picture's size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from backbones.images import Size

SHORTER_SIDES = (256, 480)
_AREA, _LOG_ASPECT = (0.08, 1.0), math.log(4 / 3)
_TRIES = 10


@dataclass(frozen=True)
class Crop:
    """A window of a picture and what becomes of it.

    Attributes:
        box: left, top, right, bottom in pixels of the picture, not rounded.
        size: (height, width) that the window is resized to.
        mirrored: whether left and right change places.
    """

    box: tuple[float, float, float, float]
    size: Size
    mirrored: bool


def scale_jitter(draws: tuple[float, ...], picture: Size, side: int = 224) -> Crop:
    """Section 3.4: the shorter side is drawn from [256, 480], then a crop of 224 of it or of its mirror image.

    The crop is mapped back to the picture, so that only the window that is used has to be resized.

    Args:
        draws: four in [0, 1): shorter side, row, column, mirroring.
        picture: (height, width).
        side: of the crop. The range of shorter sides scales with it.
    """
    low, high = (round(bound * side / 224) for bound in SHORTER_SIDES)
    shorter = low + int(draws[0] * (high - low + 1))
    scale = shorter / min(picture)
    height, width = (round(length * scale) for length in picture)
    top = int(draws[1] * (height - side + 1))
    left = int(draws[2] * (width - side + 1))
    down, across = picture[0] / height, picture[1] / width
    box = (left * across, top * down, (left + side) * across, (top + side) * down)
    return Crop(box, (side, side), draws[3] < 0.5)


def resized_crop(draws: tuple[float, ...], picture: Size, side: int = 224) -> Crop:
    """Inception's: a window of 8 to 100 % of the area, of an aspect ratio from 3:4 to 4:3, resized to 224.

    Args:
        draws: as many in [0, 1) as ``draws_needed`` says: mirroring, row, column, and pairs of area and aspect ratio of
            which the first that fits is taken; if none does, the largest central window.
        picture: (height, width).
        side: of the crop.
    """
    height, width = picture
    for attempt in range(_TRIES):
        first, second = draws[3 + 2 * attempt : 5 + 2 * attempt]
        area = (_AREA[0] + first * (_AREA[1] - _AREA[0])) * height * width
        aspect = math.exp((2 * second - 1) * _LOG_ASPECT)
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = int(draws[1] * (height - rows + 1)), int(draws[2] * (width - columns + 1))
            break
    else:
        rows, columns = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
        top, left = (height - rows) // 2, (width - columns) // 2
    return Crop((left, top, left + columns, top + rows), (side, side), draws[0] < 0.5)


def draws_needed(augmentation: str) -> int:
    """How many draws a picture takes."""
    return 3 + 2 * _TRIES if augmentation == "resized-crop" else 4
