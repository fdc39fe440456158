"""What training does to its pictures: section 4.2 (CIFAR), section 3.4 (ImageNet), and today's.

Which part of a picture training looks at is a pure function of a few draws and the picture's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from backbones.images import Size

PADDING = 4
SHORTER_SIDES = (256, 480)
_AREA, _LOG_ASPECT = (0.08, 1.0), math.log(4 / 3)
_TRIES = 10
DEVIATION = 0.1
EIGENVALUES = (0.2175, 0.0188, 0.0045)
"""Of the covariance of ImageNet's RGB values in [0, 1]."""
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
"""One a column; rows are red, green and blue."""


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


def crop_and_mirror(images: Tensor, draws: Tensor, mirrored: bool = True) -> Tensor:
    """The CIFAR augmentation: pad by 4 pixels of zero, crop at random, mirror half of the images: one gather.

    The images are normalized already, so the border is the mean (section 4.2 pads after subtracting it).

    Args:
        images: [B, C, H, W].
        draws: [B, 3] in [0, 1): row, column and mirroring of each image.
        mirrored: whether images may be mirrored at all.

    Returns:
        [B, C, H, W].
    """
    rows, columns = places_in_padded(draws, images.shape[2], images.shape[3], mirrored)
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def places_in_padded(draws: Tensor, height: int, width: int, mirrored: bool) -> tuple[Tensor, Tensor]:
    """Rows [B, H] and columns [B, W] of the padded images that ``crop_and_mirror`` takes, by its draws [B, 3]."""
    offsets = (draws[:, :2] * (2 * PADDING + 1)).long()
    rows = offsets[:, :1] + torch.arange(height, device=draws.device)
    columns = torch.arange(width, device=draws.device).expand(len(draws), width)
    if mirrored:
        columns = torch.where(draws[:, 2:] < 0.5, columns.flip(1), columns)
    return rows, offsets[:, 1:] + columns


def lighting_shift(draws: Tensor) -> Tensor:
    """What to add to every pixel of each image.

    Args:
        draws: [B, 3] standard normal.

    Returns:
        [B, 3, 1, 1] on the 0..255 scale: components times eigenvalue times N(0, 0.1).
    """
    values = torch.tensor(EIGENVALUES, device=draws.device)
    vectors = torch.tensor(EIGENVECTORS, device=draws.device)
    return (255 * DEVIATION * (draws * values) @ vectors.T)[:, :, None, None]


def standard_normal(draws: Tensor) -> Tensor:
    """Uniform draws [B, 6] in [0, 1) -> [B, 3] standard normal (Box and Muller)."""
    below_one = draws[:, :3].clamp(max=1 - 2.0**-24)  # a double just below 1 is 1 in float32, and its radius infinite
    radius = (-2 * torch.log1p(-below_one)).sqrt()
    return radius * torch.cos(2 * torch.pi * draws[:, 3:])
