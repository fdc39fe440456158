"""Labels as pictures: files with a palette, and colours laid over photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from backbones.images import Labels, Picture, resize, resize_nearest
from backbones.running.atomic_write import atomic_path
from detection.segmentation.maps import SegmentationMap
from detection.segmentation.settings import IGNORED

_STRENGTH = 0.55
_NAMED_SHARE = 0.002
"""Of the picture's pixels; classes that cover less are not named on it."""


def save_labels(path: Path, labels: Labels) -> None:
    """Write a label image as VOC's are: a PNG whose pixels are the labels, with VOC's palette."""
    image = Image.frombytes("P", (labels.shape[1], labels.shape[0]), labels.tobytes())
    image.putpalette(palette().tobytes())
    with atomic_path(path) as partial:
        image.save(partial, format="PNG")


def draw_map(picture: Picture, found: SegmentationMap, classes: Sequence[str], enlarge: int = 1) -> Picture:
    """``draw_labels`` of what a segmenter found."""
    return draw_labels(picture, found.labels, classes, enlarge)


def draw_labels(picture: Picture, labels: Labels, classes: Sequence[str], enlarge: int = 1) -> Picture:
    """A copy of the picture with every class but the background in its colour, and the names of those that are there.

    Args:
        picture: [H, W, 3].
        labels: [H, W]; 255 becomes white.
        classes: names in the order of the labels.
        enlarge: draw on a picture so many times larger, where names would hide a small one.
    """
    size = (picture.shape[0] * enlarge, picture.shape[1] * enlarge)
    picture, labels = resize(picture, size), resize_nearest(labels, size)
    colours = palette()
    colours[IGNORED] = 255
    painted = picture + _STRENGTH * (colours[labels].astype(np.float32) - picture)
    drawn = np.where((labels > 0)[..., None], np.rint(painted).astype(np.uint8), picture)
    image = Image.fromarray(drawn)
    counts = np.bincount(labels.reshape(-1), minlength=256)
    shown = [label for label in range(1, len(classes)) if counts[label] > _NAMED_SHARE * labels.size]
    _write_legend(ImageDraw.Draw(image), [(classes[label], tuple(colours[label])) for label in shown], image.height)
    return np.asarray(image)


def _write_legend(draw: ImageDraw.ImageDraw, rows: Sequence[tuple[str, tuple[int, ...]]], height: int) -> None:
    """Names on fields of their colours, down the left edge."""
    size = max(9, min(18, height // 25))
    font = ImageFont.load_default(size)
    for row, (name, colour) in enumerate(rows):
        top = row * (size + 5)
        draw.rectangle((0, top, draw.textlength(name, font) + 5, top + size + 4), fill=tuple(map(int, colour)))
        draw.text((3, top + 1), name, fill="white", font=font, stroke_width=1, stroke_fill="black")


def palette() -> NDArray[np.uint8]:
    """VOC's colours, [256, 3]: the bits of a label, three by three, become the highest bits of red, green and blue."""
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for place in range(8):
        for channel in range(3):
            colours[:, channel] |= (labels >> (3 * place + channel) & 1) << (7 - place)
    return colours.astype(np.uint8)
