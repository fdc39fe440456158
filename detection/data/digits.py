"""``digits`` for detection: scenes of handwritten digits, composed in memory from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from backbones.data.digits import CLASSES, SPLITS, digit_glyphs
from backbones.data.painting import chalk_color, cluttered_background, paint, stroke_coverage
from backbones.images import Picture
from backbones.running.keyed_random import generator
from detection.data.annotations import AnnotationBuilder, DetectionData

SIZE = 128
SCENES = {"train": 2000, "val": 200, "test": 200}
SMALLEST, LARGEST = 14, 64
MOST = 8
OVERLAP = 0.4
"""Two digits' boxes share at most this part of the smaller one."""
VISIBLE = 0.5
"""At least this part of a digit's strokes stays visible under later ones."""
_SEED = 2016
_TRIES = 40


@dataclass(frozen=True)
class Scene:
    """One picture with exact annotations.

    Attributes:
        image: [128, 128, 3] uint8.
        boxes: [n, 4] int64: the exact extent of each digit's visible strokes.
        labels: [n] int64.
        masks: [n, 128, 128] bool: the visible strokes.
    """

    image: Picture
    boxes: NDArray[np.int64]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_]


@dataclass
class _Placed:
    label: int
    box: tuple[int, int, int, int]
    whole: int
    mask: NDArray[np.bool_]


def compose_scene(split: str, number: int) -> Scene:
    """Scene ``number`` of a split: a function of both and of nothing else.

    One to eight digits of the split, 14 to 64 pixels high, each in its own light colour on a darker cluttered
    background; later digits lie over earlier ones.
    """
    rng = generator(_SEED, SPLITS.index(split), number)
    glyphs, labels = digit_glyphs(split)
    canvas = cluttered_background(rng, SIZE, SIZE)
    placed: list[_Placed] = []
    for _ in range(rng.integers(1, MOST + 1)):
        which = int(rng.integers(len(glyphs)))
        coverage = stroke_coverage(glyphs[which], int(rng.integers(SMALLEST, LARGEST + 1)))
        spot = _find_spot(rng, coverage > 0.5, placed)
        if spot is None:
            continue
        top, left = spot
        mask = np.zeros((SIZE, SIZE), bool)
        mask[top : top + coverage.shape[0], left : left + coverage.shape[1]] = coverage > 0.5
        paint(canvas, coverage, chalk_color(rng, canvas[mask]), top, left)
        for other in placed:
            other.mask &= ~mask
        placed.append(_Placed(int(labels[which]), _extent(mask), int(mask.sum()), mask))
    return Scene(
        np.clip(np.rint(canvas), 0, 255).astype(np.uint8),
        np.array([_extent(item.mask) for item in placed], np.int64),
        np.array([item.label for item in placed], np.int64),
        np.stack([item.mask for item in placed]),
    )


def _find_spot(rng: np.random.Generator, strokes: NDArray[np.bool_], placed: list[_Placed]) -> tuple[int, int] | None:
    """A place (top, left) for a digit that hides no other too much, or None after some tries."""
    height, width = strokes.shape
    x1, y1, x2, y2 = _extent(strokes)
    for _ in range(_TRIES):
        top, left = int(rng.integers(0, SIZE - height + 1)), int(rng.integers(0, SIZE - width + 1))
        box = (left + x1, top + y1, left + x2, top + y2)
        if all(_overlap(box, other.box) <= OVERLAP for other in placed) and all(
            _still_visible(other, strokes, top, left) for other in placed
        ):
            return top, left
    return None


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """The common area as a part of the smaller box."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(width, 0) * max(height, 0) / smaller


def _still_visible(other: _Placed, strokes: NDArray[np.bool_], top: int, left: int) -> bool:
    height, width = strokes.shape
    hidden = np.count_nonzero(other.mask[top : top + height, left : left + width] & strokes)
    return bool(np.count_nonzero(other.mask) - hidden >= VISIBLE * other.whole)


def _extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@cache
def digit_scenes(split: str) -> tuple[Scene, ...]:
    """All scenes of a split.

    Raises:
        InputError: no such split.
    """
    digit_glyphs(split)
    return tuple(compose_scene(split, number) for number in range(SCENES[split]))


def read_digits(split: str) -> DetectionData:
    """The scenes of a split as detection data.

    Raises:
        InputError: no such split.
    """
    from pycocotools import mask as rle

    scenes = digit_scenes(split)
    builder = AnnotationBuilder(CLASSES)
    for number, scene in enumerate(scenes, start=1):
        for box, label, mask in zip(scene.boxes, scene.labels, scene.masks, strict=True):
            encoded = rle.encode(np.asfortranarray(mask.view(np.uint8)))["counts"]
            builder.add_object([float(edge) for edge in box], int(label), area=float(mask.sum()), mask=encoded)
        builder.add_image(f"{number:06d}.png", number, (SIZE, SIZE))
    return DetectionData("digits", builder.build(), [scene.image for scene in scenes], mirrored=False)
