"""Masks: run lengths against pycocotools, pasting against a slow form."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as rle

from detection.masks.encoded import EncodedMasks
from detection.masks.pasting import paste
from detection.masks.run_length import RunLengthMasks, concatenate, encode_window


def random_masks(seed: int, count: int = 6, size: tuple[int, int] = (13, 17)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    masks = rng.random((count, *size)) < rng.choice([0.05, 0.5, 0.95], (count, 1, 1))
    masks[0], masks[1] = False, True
    return masks


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    masks = random_masks(seed)
    encoded = RunLengthMasks.from_dense(masks)
    assert (np.asarray(encoded) == masks).all()
    assert (encoded.areas() == masks.sum((1, 2))).all()
    for number, item in enumerate(encoded.to_coco()):
        theirs = rle.encode(np.asfortranarray(masks[number].astype(np.uint8)))
        assert rle.frPyObjects(item, *masks.shape[1:])["counts"] == theirs["counts"]


def test_a_window_is_encoded_in_its_place() -> None:
    window = np.random.default_rng(0).random((7, 5)) < 0.5
    for top, left in ((0, 0), (6, 12), (3, 4)):
        whole = np.zeros((13, 17), bool)
        whole[top : top + 7, left : left + 5] = window
        assert (encode_window(window, top, left, (13, 17)) == RunLengthMasks.from_dense(whole[None]).runs[0]).all()


def test_indexing_chooses_masks() -> None:
    masks = random_masks(0)
    encoded = RunLengthMasks.from_dense(masks)
    for chosen in (slice(1, 4), np.array([True, False, True, False, False, True]), np.array([4, 0]), [2]):
        assert (np.asarray(encoded[chosen]) == masks[chosen]).all()
    assert len(encoded[np.zeros(6, bool)]) == 0
    assert (np.asarray(concatenate([encoded[:2], encoded[2:]])) == masks).all()


def slowly_pasted(grid: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each pixel's centre looked up in the grid between the centres of its cells; beyond the grid there is zero."""
    cells, padded = len(grid), np.pad(grid, 2)
    pasted = np.zeros(size, bool)
    for y in range(size[0]):
        for x in range(size[1]):
            v = (y + 0.5 - box[1]) / (box[3] - box[1]) * cells - 0.5 + 2
            u = (x + 0.5 - box[0]) / (box[2] - box[0]) * cells - 0.5 + 2
            if not (1 <= v < cells + 2 and 1 <= u < cells + 2):
                continue
            i, j = int(v), int(u)
            a, b = v - i, u - j
            top = padded[i, j] * (1 - b) + padded[i, j + 1] * b
            low = padded[i + 1, j] * (1 - b) + padded[i + 1, j + 1] * b
            touched = np.floor(box[1]) <= y < np.ceil(box[3]) and np.floor(box[0]) <= x < np.ceil(box[2])
            pasted[y, x] = touched and top * (1 - a) + low * a >= 0.5
    return pasted


def test_pasting_is_the_slow_form() -> None:
    rng = np.random.default_rng(3)
    size = (40, 50)
    corner = rng.uniform(-5, 35, (12, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(1, 30, (12, 2))), 1).astype(np.float32)
    grids = rng.random((12, 7, 7)).astype(np.float32)
    pasted = np.asarray(paste(grids, boxes, size))
    slow = np.stack(
        [slowly_pasted(grid.astype(float), box.astype(float), size) for grid, box in zip(grids, boxes, strict=True)]
    )
    assert slow.sum() > 500
    assert (pasted != slow).sum() <= 2  # where a value is one half to rounding


def test_a_box_outside_gives_an_empty_mask() -> None:
    pasted = paste(np.ones((1, 7, 7), np.float32), np.array([[60, 0, 70, 9]], np.float32), (40, 50))
    assert pasted.areas().tolist() == [0]


def test_encoded_masks_lie_in_flat_memory() -> None:
    masks = random_masks(1)
    counts = [rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks]
    encoded = EncodedMasks.join([*counts, b""])
    assert len(encoded) == 7
    assert (encoded.rows(2, 5).dense(1, (13, 17)) == masks[3]).all()
    assert encoded.counts(6) == b""


@pytest.mark.parametrize("size", [(13, 17), (1, 1), (300, 400)])
def test_compressed_text_is_that_of_pycocotools(size: tuple[int, int]) -> None:
    masks = random_masks(2, size=size)
    masks[2] = np.arange(size[0])[:, None] < size[0] // 2  # runs as long as columns, differences of zero
    for mask, item in zip(masks, RunLengthMasks.from_dense(masks).to_compressed_coco(), strict=True):
        assert item["counts"].encode() == rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        assert (rle.decode(item) == mask).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_cropped_mask_is_a_part_of_the_whole(seed: int) -> None:
    masks = random_masks(seed)
    masks[2:] &= np.random.default_rng(seed).random((4, *masks.shape[1:])) < 0.03
    masks[5] = False
    masks[5, 4, 6] = True
    encoded = RunLengthMasks.from_dense(masks)
    for number, mask in enumerate(masks):
        top, left, part = encoded.cropped(number)
        again = np.zeros_like(mask)
        again[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert (again == mask).all()
        assert not part.size or all(edge.any() for edge in (part[0], part[-1], part[:, 0], part[:, -1]))
