"""Masks, boxes and labels on pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detection.detections import Detections
from detection.drawing import _arrange, _eroded, class_color, draw_detections
from detection.masks.run_length import RunLengthMasks


def test_boxes_are_drawn_in_class_colours_with_labels_inside() -> None:
    black = np.zeros((200, 300, 3), np.uint8)
    found = Detections(np.array([[100.0, 80, 180, 160], [280, 2, 300, 30]]), np.array([0.9, 0.8]), np.array([0, 1]))
    drawn = draw_detections(black, found, ("cat", "a rather long name"), truth=[[10, 10, 20, 20]])
    assert drawn.shape == black.shape
    assert tuple(drawn[120, 100]) == class_color(0)
    assert tuple(drawn[15, 10]) == (255, 255, 255)
    label = drawn[60:80, 95:185].reshape(-1, 3)
    assert (label == class_color(0)).all(1).sum() > 200  # the field behind the text, above the box
    assert not black.any()
    assert draw_detections(black, found, ("a", "b"), enlarge=3).shape == (600, 900, 3)


@pytest.mark.parametrize("enlarge", [1, 3])
def test_masks_are_translucent_with_a_contour(enlarge: int) -> None:
    grey = np.full((60, 80, 3), 100, np.uint8)
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 20:40, 30:60] = True  # the second is empty
    boxes = np.array([[5.0, 5, 75, 55], [1, 1, 3, 3]])
    found = Detections(boxes, np.array([0.9, 0.8]), np.array([2, 0]), RunLengthMasks.from_dense(masks))
    drawn = draw_detections(grey, found, ("a", "b", "c"), enlarge=enlarge)
    middle = drawn[30 * enlarge, 45 * enlarge]
    assert np.abs(middle - (100 * 0.55 + np.array(class_color(2)) * 0.45)).max() <= 1
    for row, column in ((20 * enlarge, 45 * enlarge), (40 * enlarge - 1, 45 * enlarge), (30 * enlarge, 30 * enlarge)):
        assert tuple(drawn[row, column]) == class_color(2)
    assert tuple(drawn[45 * enlarge, 45 * enlarge]) == (100, 100, 100)


def test_erosion_is_the_slow_form() -> None:
    mask = np.random.default_rng(0).random((12, 15)) < 0.9
    padded = np.pad(mask, 2)
    slow = np.zeros_like(mask)
    for y in range(12):
        for x in range(15):
            near = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if abs(i) + abs(j) <= 2]
            slow[y, x] = all(padded[y + 2 + i, x + 2 + j] for i, j in near)
    assert (_eroded(mask, 2) == slow).all()


def test_labels_avoid_each_other_and_stay_inside() -> None:
    size = (300, 200)
    draw = ImageDraw.Draw(Image.new("RGB", size))
    boxes = [[100.0, 60, 200, 150], [102, 62, 205, 152], [98, 58, 199, 149], [-5, -5, 30, 20], [290, 190, 300, 200]]
    labels = _arrange(draw, boxes, ["person 0.91"] * 5, size)
    canvas = np.zeros((200, 300), int)
    for label in labels:
        x1, y1, x2, y2 = label.field
        assert 0 <= x1 < x2 <= 300
        assert 0 <= y1 < y2 <= 200
        canvas[round(y1) : round(y2), round(x1) : round(x2)] += 1
    assert canvas.max() == 1
    assert labels[0].field[3] == 60  # the best-scored stands on its box
    wide = _arrange(draw, boxes[:1], ["a name that is wider than the whole picture " * 3], size)
    assert wide[0].field[0] == 0
