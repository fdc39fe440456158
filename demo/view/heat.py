"""Where the network looked, laid over the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backbones.images import Picture
from demo.model.finders import Area

_STOPS = np.array([0.0, 0.35, 0.65, 1.0])
_COLORS = np.array([[40, 20, 90], [190, 40, 110], [250, 140, 50], [255, 245, 170]], np.float64)
"""Dark violet to pale yellow: brightness alone orders them, so the colour-blind and greyscale printers see it too."""
_STRONGEST = 0.65
"""How much of the picture the brightest places hide."""
_UNSEEN = 0.35
"""How bright the parts stay that the network did not see."""


def draw_heat(picture: Picture, activation: NDArray[np.float32], area: Area) -> Picture:
    """A copy of the picture, warm where the activation map speaks for the class.

    Args:
        picture: [H, W, 3].
        activation: [h, w]; what is negative speaks against the class and stays cold.
        area: (top, left, height, width) of the picture that the map covers; the rest is darkened.
    """
    strength, seen = _spread(activation, area, picture.shape[:2])
    color = np.stack([np.interp(strength, _STOPS, _COLORS[:, channel]) for channel in range(3)], -1)
    weight = (_STRONGEST * np.sqrt(strength))[..., None]
    mixed = picture * (1 - weight) + color * weight
    mixed[~seen] = picture[~seen] * _UNSEEN
    return np.asarray(np.rint(mixed), np.uint8)


def _spread(
    activation: NDArray[np.float32], area: Area, size: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The map in 0..1 over the picture [H, W], and where it says anything."""
    positive = np.maximum(activation, 0)
    scaled = positive / positive.max() if positive.max() > 0 else positive
    top, left, height, width = area
    rows, columns = max(1, round(height)), max(1, round(width))
    large = np.asarray(
        Image.fromarray(scaled.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC)
    ).clip(0, 1)
    strength, seen = np.zeros(size, np.float32), np.zeros(size, bool)
    y, x = round(top), round(left)
    y1, x1, y2, x2 = max(0, y), max(0, x), min(size[0], y + rows), min(size[1], x + columns)
    strength[y1:y2, x1:x2] = large[y1 - y : y2 - y, x1 - x : x2 - x]
    seen[y1:y2, x1:x2] = True
    return strength, seen
