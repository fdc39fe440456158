"""Boxes on pictures: each in its class's colour, with class and score on the box."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from backbones.images import Picture, resize
from detection.detections import Detections

Color = tuple[int, int, int]


def draw_detections(
    picture: Picture,
    found: Detections,
    classes: Sequence[str],
    truth: Sequence[Sequence[float]] = (),
    enlarge: int = 1,
    colors: Sequence[Color] | None = None,
) -> Picture:
    """A copy of the picture with every detection on it.

    Args:
        picture: [H, W, 3] uint8.
        found: boxes in its pixels; the best-scored ends on top.
        classes: names in the order of the labels.
        truth: boxes [n, 4] to draw in white below, such as annotations.
        enlarge: draw on a picture so many times larger, where labels would hide small ones.
        colors: of each detection, in place of that of its class.
    """
    height, width = picture.shape[:2]
    image = Image.fromarray(resize(picture, (height * enlarge, width * enlarge))).copy()
    draw = ImageDraw.Draw(image)
    for box in truth:
        _outline(draw, [edge * enlarge for edge in box], (255, 255, 255), image.size)
    size = max(11, round(min(image.size) / 38))
    colors = [class_color(int(label)) for label in found.labels] if colors is None else colors
    for number in reversed(range(len(found))):
        label = int(found.labels[number])
        box = [float(edge) * enlarge for edge in found.boxes[number]]
        _outline(draw, box, colors[number], image.size)
        text = f"{classes[label]} {float(found.scores[number]):.2f}"
        _label(draw, box, text, colors[number], size, image.size)
    return np.asarray(image)


def class_color(label: int) -> Color:
    """A bright colour for a class; neighbouring labels differ strongly."""
    hue = (label * 0.618034 + 0.05) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _outline(draw: ImageDraw.ImageDraw, box: Sequence[float], color: Color, extent: tuple[int, int]) -> None:
    x1, y1, x2, y2 = box
    width = max(1, round(min(extent) / 250))
    draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=width)


def _label(
    draw: ImageDraw.ImageDraw, box: Sequence[float], text: str, color: Color, size: int, extent: tuple[int, int]
) -> None:
    """Text on a filled field at the upper edge of a box, kept inside the picture."""
    font = _font(size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(0.0, box[0]), max(0.0, extent[0] - width))
    y = box[1] - height if box[1] >= height else min(box[1], extent[1] - height)
    draw.rectangle((x, y, x + width, y + height), fill=color)
    draw.text((x + 2 - left, y + 2 - top), text, fill=_readable_on(color), font=font)


def _readable_on(color: Color) -> Color:
    brightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if brightness > 120 else (255, 255, 255)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
