"""Masks, boxes and labels on pictures, each in its class's colour."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from backbones.errors import InputError
from backbones.images import Picture, resize
from backbones.running.atomic_write import atomic_path
from detection.detections import Detections

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG", "compress_level": 1},
    ".jpg": {"format": "JPEG", "quality": 92},
}
"""How drawn pictures are written, by suffix."""
_TINT = 0.45
"""How much of a mask's pixels is its class's colour."""


def draw_detections(
    picture: Picture,
    found: Detections,
    classes: Sequence[str] = (),
    truth: Sequence[Sequence[float]] = (),
    enlarge: int = 1,
    colors: Sequence[Color] | None = None,
) -> Picture:
    """A copy of the picture with every detection on it.

    Masks lie below, translucent and with a contour; boxes above them, and labels above all. The best-scored ends on
    top, and its label has the first choice of place.

    Args:
        picture: [H, W, 3] uint8.
        found: boxes, and masks if there are any, in its pixels.
        classes: names in the order of the labels; by default those that the detections know.
        truth: boxes [n, 4] to draw in white below, such as annotations.
        enlarge: draw on a picture so many times larger, where labels would hide small ones.
        colors: of each detection, in place of that of its class.
    """
    height, width = picture.shape[:2]
    canvas = np.array(resize(picture, (height * enlarge, width * enlarge)))
    colors = [class_color(int(label)) for label in found.labels] if colors is None else colors
    line = max(1, round(min(canvas.shape[:2]) / 250))
    if found.masks is not None:
        for number in reversed(range(len(found))):
            _tint(canvas, found.masks.cropped(number), colors[number], enlarge, line)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for box in truth:
        _outline(draw, [edge * enlarge for edge in box], (255, 255, 255), line)
    boxes = [[float(edge) * enlarge for edge in box] for box in found.boxes]
    for number in reversed(range(len(found))):
        _outline(draw, boxes[number], colors[number], line)
    texts = [f"{name} {float(score):.2f}" for name, score in zip(found.names(classes), found.scores, strict=True)]
    labels = _arrange(draw, boxes, texts, image.size)
    for label, color in reversed(list(zip(labels, colors, strict=True))):
        label.write(draw, color)
    return np.asarray(image)


def save_drawn(path: Path, drawn: Picture) -> None:
    """Write a drawn picture, which is whole or absent, as its suffix says.

    Raises:
        InputError: another suffix than ``FORMATS`` has, or the file cannot be written.
    """
    suffix = suffix_of(path)
    try:
        with atomic_path(path) as partial:
            Image.fromarray(drawn).save(partial, **FORMATS[suffix])
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def suffix_of(path: Path) -> str:
    """The key of ``FORMATS`` that a file's name asks for.

    Raises:
        InputError: there is none.
    """
    suffix = {".jpeg": ".jpg"}.get(path.suffix.lower(), path.suffix.lower())
    if suffix not in FORMATS:
        raise InputError(f"{path}: drawn pictures are written as .png or .jpg; end the name in one of these")
    return suffix


def class_color(label: int) -> Color:
    """A bright colour for a class; neighbouring labels differ strongly."""
    hue = (label * 0.618034 + 0.05) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _tint(canvas: Picture, cropped: tuple[int, int, NDArray[np.bool_]], color: Color, enlarge: int, line: int) -> None:
    """Mix a colour into the pixels of a mask (top, left, [h, w]), and draw its contour inside."""
    top, left = cropped[0] * enlarge, cropped[1] * enlarge
    mask = cropped[2].repeat(enlarge, 0).repeat(enlarge, 1)
    part = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    mixed = part[mask] * np.float32(1 - _TINT) + np.array(color, np.float32) * np.float32(_TINT)
    part[mask] = (mixed + 0.5).astype(np.uint8)
    part[mask & ~_eroded(mask, line)] = color


def _eroded(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The pixels of a mask that so many steps up, down, left or right do not lead out of."""
    inner = np.pad(mask, 1)
    for _ in range(steps):
        core = inner[1:-1, 1:-1]
        inner[1:-1, 1:-1] = core & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return inner[1:-1, 1:-1]


def _outline(draw: ImageDraw.ImageDraw, box: Sequence[float], color: Color, line: int) -> None:
    x1, y1, x2, y2 = box
    draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=line)


@dataclass(frozen=True)
class _Label:
    """Text on a filled field.

    Attributes:
        field: (x1, y1, x2, y2).
        origin: where the text is drawn.
        text, size: what, and how large.
    """

    field: Rectangle
    origin: tuple[float, float]
    text: str
    size: int

    def write(self, draw: ImageDraw.ImageDraw, color: Color) -> None:
        draw.rectangle(self.field, fill=color)
        draw.text(self.origin, self.text, fill=_readable_on(color), font=_font(self.size))


def _arrange(
    draw: ImageDraw.ImageDraw, boxes: Sequence[Sequence[float]], texts: Sequence[str], extent: tuple[int, int]
) -> list[_Label]:
    """A label for each box at one of its corners, within the picture, where it hides the labels before it least."""
    size = max(11, round(min(extent) / 38))
    placed: list[_Label] = []
    for box, text in zip(boxes, texts, strict=True):
        left, top, right, bottom = draw.textbbox((0, 0), text, font=_font(size))
        width, height = right - left + 4, bottom - top + 4
        fields = [_within(field, extent) for field in _corners(box, width, height)]
        # min takes the first of equals, so the order of the corners is the order of preference
        field = min(fields, key=lambda field: sum(_overlap(field, other.field) for other in placed))
        placed.append(_Label(field, (field[0] + 2 - left, field[1] + 2 - top), text, size))
    return placed


def _corners(box: Sequence[float], width: float, height: float) -> Iterator[Rectangle]:
    """Fields at the corners of a box: above it, inside at its top, below it, inside at its foot; left and right."""
    x1, y1, x2, y2 = box
    for y in (y1 - height, y1, y2, y2 - height):
        for x in (x1, x2 - width):
            yield x, y, x + width, y + height


def _within(field: Rectangle, extent: tuple[int, int]) -> Rectangle:
    """The field moved into the picture; one larger than the picture begins at its edge."""
    x1, y1, x2, y2 = field
    x = max(0.0, min(x1, extent[0] - (x2 - x1)))
    y = max(0.0, min(y1, extent[1] - (y2 - y1)))
    return x, y, x + x2 - x1, y + y2 - y1


def _overlap(a: Rectangle, b: Rectangle) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _readable_on(color: Color) -> Color:
    brightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if brightness > 120 else (255, 255, 255)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
