"""Arithmetic of boxes against brute force and torchvision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou, clip_boxes_to_image

from detection.boxes import ROI_WEIGHTS, RPN_WEIGHTS, area, clip, coverage, decode, encode, iou

coordinates = st.integers(0, 60)


@st.composite
def box(draw: st.DrawFn) -> list[int]:
    x1, y1 = draw(coordinates), draw(coordinates)
    return [x1, y1, x1 + draw(st.integers(0, 30)), y1 + draw(st.integers(0, 30))]


def random_boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * 100
    return torch.cat((corner, corner + torch.rand(*shape, 2, generator=generator) * 50 + 1), -1)


@settings(max_examples=50, deadline=None)
@given(box(), box())
def test_overlaps_are_those_of_counted_pixels(a: list[int], b: list[int]) -> None:
    def pixels(box: list[int]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    ours, theirs = pixels(a), pixels(b)
    boxes = torch.tensor([a, b], dtype=torch.float32)
    union = len(ours | theirs)
    assert iou(boxes[:1], boxes[1:]).item() == pytest.approx(len(ours & theirs) / union if union else 0)
    assert coverage(boxes[:1], boxes[1:]).item() == pytest.approx(len(ours & theirs) / len(ours) if ours else 0)
    assert area(boxes).tolist() == [len(ours), len(theirs)]


def test_batched_overlaps_equal_torchvision() -> None:
    a, b = random_boxes(3, 40), random_boxes(3, 25, seed=1)
    for image in range(3):
        assert torch.allclose(iou(a, b)[image], box_iou(a[image], b[image]), atol=1e-6)


@pytest.mark.parametrize("weights", [RPN_WEIGHTS, ROI_WEIGHTS])
def test_the_box_code_is_fast_r_cnns(weights: tuple[float, float, float, float]) -> None:
    boxes, references = random_boxes(50), random_boxes(50, seed=1)
    coder = BoxCoder(weights)
    deltas = encode(boxes, references, weights)
    assert torch.allclose(deltas, coder.encode([boxes], [references])[0], atol=1e-4)
    assert torch.allclose(decode(deltas, references, weights), boxes, atol=1e-3)
    noise = torch.randn(50, 4) * 30
    expected = coder.decode_single(noise, references)
    assert torch.allclose(decode(noise, references, weights), expected, rtol=1e-4, atol=1e-2)


def test_empty_boxes_give_finite_targets() -> None:
    nothing = torch.zeros(2, 4)
    assert encode(nothing, nothing, ROI_WEIGHTS).isfinite().all()
    assert decode(torch.full((2, 4), 1e9), nothing, RPN_WEIGHTS).isfinite().all()


def test_clipping_uses_each_images_own_size() -> None:
    boxes = random_boxes(2, 5, 7) * 3 - 50
    sizes = torch.tensor([[60, 90], [120, 40]])
    clipped = clip(boxes, sizes)
    for image, size in enumerate(sizes.tolist()):
        assert torch.equal(clipped[image], clip_boxes_to_image(boxes[image], tuple(size)))
