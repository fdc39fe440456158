"""``digits``: scikit-learn's 1,797 handwritten digits, split, and painted as a classification set."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from backbones.data.arrays import LabelledImages
from backbones.data.painting import chalk_color, cluttered_background, paint, stroke_coverage
from backbones.errors import InputError
from backbones.running.keyed_random import generator

CLASSES = tuple("0123456789")
SPLITS = ("train", "val", "test")
_SHARES = {"test": 0.2, "val": 0.1}
_SEED = 1512_03385
_SIZE, _COPIES = 32, 8


@cache
def digit_glyphs(split: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The handwritten digits of one split: glyphs [N, 8, 8] in 0..16 and labels [N].

    Each class is divided alike: 70 % train, 10 % val, 20 % test. No digit is in two splits, whatever is painted
    with it later.

    Raises:
        InputError: no such split.
    """
    from sklearn.datasets import load_digits

    if split not in SPLITS:
        raise InputError(f"digits has no split {split!r}; it has {', '.join(SPLITS)}")
    data = load_digits()
    chosen = []
    for label in range(10):
        members = np.flatnonzero(data.target == label)
        members = generator(_SEED, label).permutation(members)
        first, second = round(len(members) * _SHARES["test"]), round(len(members) * sum(_SHARES.values()))
        parts = {"test": members[:first], "val": members[first:second], "train": members[second:]}
        chosen.append(parts[split])
    indices = np.sort(np.concatenate(chosen))
    return data.images[indices], data.target[indices].astype(np.int64)


@cache
def digits_classification(split: str, copies: int | None = None) -> LabelledImages:
    """Each digit of a split on its own cluttered background, 32 x 32, 18 to 28 pixels high.

    Args:
        split: train, val, test, or trainval for the first two together.
        copies: pictures for each handwritten digit, each with its own size, place, colours and background; by
            default eight for training and one otherwise.
    """
    if split == "trainval":
        parts = [digits_classification(part, copies or _COPIES) for part in ("train", "val")]
        images, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        return LabelledImages(images, labels, CLASSES, mirrored=False)
    glyphs, labels = digit_glyphs(split)
    copies = copies or (_COPIES if split == "train" else 1)
    portraits = [
        _portrait(glyph, SPLITS.index(split), index, copy)
        for copy in range(copies)
        for index, glyph in enumerate(glyphs)
    ]
    return LabelledImages(np.stack(portraits), np.tile(labels, copies), CLASSES, mirrored=False)


def _portrait(glyph: NDArray[np.float64], *key: int) -> NDArray[np.uint8]:
    rng = generator(_SEED, *key)
    canvas = cluttered_background(rng, _SIZE, _SIZE)
    coverage = stroke_coverage(glyph, int(rng.integers(18, 28)))
    top, left = (int(rng.integers(0, _SIZE - side + 1)) for side in coverage.shape)
    behind = canvas[top : top + coverage.shape[0], left : left + coverage.shape[1]]
    paint(canvas, coverage, chalk_color(rng, behind[coverage > 0.5]), top, left)
    return np.asarray(np.clip(np.rint(canvas), 0, 255), np.uint8)
