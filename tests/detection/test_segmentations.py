"""Masks in COCO's three forms, and what is none of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as rle

from detection.data.segmentations import UnusableMaskError, _decompressed, encode_segmentation
from detection.masks.run_length import RunLengthMasks

SIZE = (20, 30)


def dense(counts: bytes, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.asarray(rle.decode({"size": list(size), "counts": counts}))


def example(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.asfortranarray(np.random.default_rng(seed).random(size) < 0.4, np.uint8)


def test_polygons_are_filled_and_united() -> None:
    square, other = [2.0, 3, 8, 3, 8, 9, 2, 9], [6, 5, 12, 5, 12, 15, 6, 15]
    mask = dense(encode_segmentation([square, other], SIZE))
    expected = np.zeros(SIZE, np.uint8)
    expected[3:9, 2:8] = 1
    expected[5:15, 6:12] = 1
    assert np.array_equal(mask, expected)
    beyond = dense(encode_segmentation([[-5, -5, 40, -5, 40, 40, -5, 40]], SIZE))
    assert beyond.all(), "what reaches over the edge is cut"


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_kept(seed: int) -> None:
    mask = example(seed)
    counts = rle.encode(mask)["counts"]
    assert encode_segmentation({"size": list(SIZE), "counts": counts.decode()}, SIZE) == counts
    (plain,) = RunLengthMasks.from_dense(mask[None].astype(bool)).to_coco()
    assert np.array_equal(dense(encode_segmentation(plain, SIZE)), mask)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40))
def test_decompression_is_cocos(runs: list[int]) -> None:
    size = [1, sum(runs)]
    text = rle.frPyObjects({"size": size, "counts": runs}, *size)["counts"].decode()
    assert _decompressed(text).tolist() == runs


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "has no mask"),
        ([], "has no mask"),
        ({}, "has no mask"),
        ("polygon", "neither polygons nor run lengths"),
        ([[1, 1, 5, 5]], "less than 3 points"),
        ([1, 1, 5, 1, 5, 5], "less than 3 points"),
        ([[1, 1, 5, 1, 5, 5, 7]], "an x without y"),
        ([[1, 1, 5, None, 5, 5]], "not all numbers"),
        ([["1", "1", "5", "1", "5", "5"]], "not all numbers"),
        ([[float("nan"), 1, 5, 1, 5, 5]], "far outside"),
        ([[1, 1, 5, 1, 5, float("inf")]], "far outside"),
        ([[1, 1, 5, 1, 5e9, 5]], "far outside"),
        ([[0.0, 0, 29, 19] * 100_000], "endless outline"),
        ([[40, 40, 50, 40, 50, 50]], "covers no pixel"),
        ({"size": [30, 20], "counts": [600]}, r"has size \[30, 20\], the picture \[20, 30\]"),
        ({"size": [20, 30], "counts": [600]}, "is empty"),
        ({"size": [20, 30], "counts": [300, 299]}, "add up to 600"),
        ({"size": [20, 30], "counts": [700, -100]}, "add up to 600"),
        ({"size": [20, 30], "counts": []}, "not whole numbers"),
        ({"size": [20, 30], "counts": [1.5, 598.5]}, "not whole numbers"),
        ({"size": [20, 30], "counts": [[1], [2, 3]]}, "not whole numbers"),
        ({"size": [20, 30], "counts": [10**30]}, "not whole numbers"),
        ({"size": [20, 30], "counts": "~~~~"}, "are not COCO's"),
        ({"size": [20, 30], "counts": "o" * 40}, "are not COCO's"),
        ({"size": [20, 30], "counts": "PPPPPPPPPP1"}, "are not COCO's"),
        ({"size": [20, 30], "counts": "über"}, "are not COCO's"),
        ({"size": [20, 30], "counts": 7}, "are not COCO's"),
        ({"size": [20, 30], "counts": "123"}, "add up to 600"),
        ({"size": [20, 30]}, "neither polygons nor run lengths"),
    ],
)
def test_what_is_no_mask_is_told_apart(segmentation: Any, message: str) -> None:
    with pytest.raises(UnusableMaskError, match=message):
        encode_segmentation(segmentation, SIZE)
