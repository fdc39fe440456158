"""Annotations and detections to score, made by a fixed draw."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as rle

from detection.data.annotations import AnnotationBuilder, Annotations
from detection.detections import Detections
from detection.masks.run_length import RunLengthMasks

NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


def made_case(seed: int, images: int = 12, classes: int = 3, ignored: float = 0.2) -> tuple[Annotations, list]:
    """Objects, some ignored, and detections that hit, miss, repeat and stray; scores with ties, ids in disorder."""
    rng = np.random.default_rng(seed)
    builder = AnnotationBuilder([f"class {n}" for n in range(classes)], [3 * n + 2 for n in range(classes)])
    found = []
    for image in range(images):
        boxes = []
        for _ in range(rng.integers(0, 6)):
            corner, extent = rng.uniform(0, 300, 2), rng.uniform(5, 200, 2)
            box = (*corner, *(corner + extent))
            builder.add_object(box, int(rng.integers(classes)), ignored=bool(rng.random() < ignored))
            boxes += [np.array(box) + rng.normal(0, extent.min() / 12, 4) for _ in range(rng.integers(0, 3))]
        boxes += [np.array([10.0, 10, 60, 60]) + rng.uniform(0, 200) for _ in range(rng.integers(0, 3))]
        builder.add_image(f"{image}.jpg", 100 - image, (400, 500))
        array = np.array(boxes, np.float64).reshape(-1, 4)
        array[:, 2:] = np.maximum(array[:, 2:], array[:, :2] + 1)
        scores = np.round(rng.random(len(array)), 1)
        found.append(Detections(array, scores, rng.integers(classes, size=len(array))))
    return builder.build(), found


def ellipse(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask [H, W] of the ellipse in a box."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    across = (x - (box[0] + box[2]) / 2) / max((box[2] - box[0]) / 2, 0.5)
    down = (y - (box[1] + box[3]) / 2) / max((box[3] - box[1]) / 2, 0.5)
    return np.asarray(across**2 + down**2 <= 1)


def made_masks(seed: int, images: int = 10) -> tuple[Annotations, list[Detections]]:
    """The same with masks: ellipses in the boxes, those of the detections with holes; boxes a little too large."""
    rng = np.random.default_rng(seed)
    builder = AnnotationBuilder(("a", "b"), (7, 3))
    found = []
    for image in range(images):
        size = (int(rng.integers(60, 120)), int(rng.integers(60, 120)))
        masks, labels = [], []
        for _ in range(rng.integers(1, 5)):
            corner, extent = rng.uniform(0, 40, 2), rng.uniform(8, 60, 2)
            box, label = np.concatenate((corner, corner + extent)), int(rng.integers(2))
            mask = ellipse(box, size)
            counts = rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
            inside = np.minimum(box, [size[1], size[0]] * 2)
            builder.add_object(inside, label, bool(rng.random() < 0.15), float(mask.sum()), counts)
            for _ in range(rng.integers(0, 3)):
                masks.append(ellipse(box + rng.normal(0, 3, 4), size) & (rng.random(size) < 0.95))
                labels.append(label if rng.random() < 0.8 else 1 - label)
        builder.add_image(f"{image}.png", 50 - image, size)
        encoded = RunLengthMasks.from_dense(np.array(masks, bool).reshape(-1, *size))
        boxes = np.array([_around(mask) for mask in masks], np.float64).reshape(-1, 4)
        found.append(Detections(boxes, np.round(rng.random(len(masks)), 2), np.array(labels, np.int64), encoded))
    return builder.build(), found


def _around(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0] - 1.0, rows[0] - 1.0, columns[-1] + 2.0, rows[-1] + 2.0
