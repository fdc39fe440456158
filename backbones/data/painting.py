"""Painting handwritten digits on cluttered backgrounds, for data that needs no download.

Numpy only, and every picture is a function of its seed. A canvas is float [H, W, 3] in 0..255; coverage is the
share [h, w] in 0..1 of each pixel that strokes fill.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float64]
Coverage = NDArray[np.float64]

_FAINT, _FULL = 3.0, 11.0  # of 16: ink that begins to show, and ink that covers; half lies at 7
_FINE = 8  # samples per pixel of the 8 x 8 original when its extent is measured


def stroke_coverage(glyph: NDArray[np.floating], height: int) -> Coverage:
    """Strokes of an 8 x 8 digit, ``height`` pixels high, with a thin margin in which they fade out.

    Args:
        glyph: [8, 8] with values 0..16.
        height: of the part that is more than half covered, in pixels; the width follows.

    Returns:
        [h, w] in 0..1; more than half means that the pixel belongs to the digit.
    """
    padded = np.pad(glyph, 1)
    steps = np.arange(0, 9, 1 / _FINE)
    ink = _interpolate(padded, steps, steps) > (_FAINT + _FULL) / 2
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    top, bottom, left, right = (edge / _FINE for edge in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    scale = (bottom - top) / height
    margin = max(1, height // 12)
    y = top + (np.arange(-margin, height + margin) + 0.5) * scale
    width = max(2, round((right - left) / scale))
    x = left + (np.arange(-margin, width + margin) + 0.5) * scale
    inside = ((y >= 0) & (y <= 9))[:, None] & ((x >= 0) & (x <= 9))[None]
    field = _interpolate(padded, np.clip(y, 0, 9), np.clip(x, 0, 9))
    return np.asarray(np.clip((field - _FAINT) / (_FULL - _FAINT), 0, 1) * inside)


def _interpolate(image: NDArray[np.floating], y: NDArray[np.floating], x: NDArray[np.floating]) -> Coverage:
    """Bilinear samples at the grid of ``y`` and ``x``."""
    top, left = np.minimum(y.astype(int), image.shape[0] - 2), np.minimum(x.astype(int), image.shape[1] - 2)
    fy, fx = (y - top)[:, None], (x - left)[None]
    upper = image[top][:, left] * (1 - fx) + image[top][:, left + 1] * fx
    lower = image[top + 1][:, left] * (1 - fx) + image[top + 1][:, left + 1] * fx
    return np.asarray(upper * (1 - fy) + lower * fy)


def cluttered_background(rng: np.random.Generator, height: int, width: int) -> Canvas:
    """A dark colour gradient under translucent rectangles, ellipses and bars, with grain."""
    corners = rng.uniform(30, 120) + rng.uniform(-30, 30, (3, 3))
    down, across = (np.arange(height)[:, None, None] + 0.5) / height, (np.arange(width)[:, None] + 0.5) / width
    canvas = corners[0] + (corners[1] - corners[0]) * down + (corners[2] - corners[0]) * across
    for _ in range(round(height * width / 1600) + rng.integers(2, 6)):
        _lay_shape(rng, canvas)
    return np.asarray(canvas + rng.normal(0, rng.uniform(2, 9), (height, width, 1)))


def _lay_shape(rng: np.random.Generator, canvas: Canvas) -> None:
    """A translucent rectangle, ellipse or bar at a random place and angle, in place."""
    height, width = canvas.shape[:2]
    a, b = rng.uniform(0.05, 0.25, 2) * max(height, width)
    kind = rng.integers(3)
    if kind == 2:
        a, b = 2 * a, rng.uniform(0.5, 2)
    center_y, center_x = rng.uniform(0, height), rng.uniform(0, width)
    reach = np.hypot(a, b)
    rows = slice(max(0, int(center_y - reach)), int(center_y + reach) + 2)
    columns = slice(max(0, int(center_x - reach)), int(center_x + reach) + 2)
    window = canvas[rows, columns]
    y = np.arange(rows.start, rows.start + window.shape[0])[:, None] + 0.5 - center_y
    x = np.arange(columns.start, columns.start + window.shape[1]) + 0.5 - center_x
    angle = rng.uniform(0, np.pi)
    along = (x * np.cos(angle) + y * np.sin(angle)) / a
    across = (y * np.cos(angle) - x * np.sin(angle)) / b
    inside = along**2 + across**2 < 1 if kind == 1 else np.maximum(abs(along), abs(across)) < 1
    share = rng.uniform(0.3, 0.8) * inside[..., None]
    window += share * (rng.uniform(0, 170, 3) - window)


def chalk_color(rng: np.random.Generator, background: Canvas) -> NDArray[np.float64]:
    """A colour that is lighter, by at least 60 of 255 on average, than what lies behind. [N, 3] -> [3]."""
    behind = background.mean()
    while True:
        color = rng.uniform(60, 255, 3)
        if color.mean() - behind >= 60:
            return color


def paint(canvas: Canvas, coverage: Coverage, color: NDArray[np.float64], top: int, left: int) -> None:
    """Lay strokes on a canvas, in place."""
    height, width = coverage.shape
    region = canvas[top : top + height, left : left + width]
    region += coverage[..., None] * (color - region)
