"""RoIAlign in both forms against torchvision's kernel, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

from detection.heads.fpn import level_of
from detection.roi_align import roi_align_by_grid, roi_align_by_sum
from detection.settings import PoolSettings

STRIDES = (4, 8, 16, 32)
HEIGHT, WIDTH = 96, 128


def pyramid(batch: int = 2, channels: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, HEIGHT // s, WIDTH // s, generator=generator) for s in STRIDES]


def regions(batch: int = 2, count: int = 60) -> torch.Tensor:
    """Boxes of all sizes inside the image, among them slivers, whole images, points and borders."""
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(batch, count, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
    b = torch.rand(batch, count, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
    boxes = torch.cat((torch.minimum(a, b), torch.maximum(a, b)), -1)
    boxes[:, 0] = torch.tensor([0.0, 0, WIDTH, HEIGHT])
    boxes[:, 1] = torch.tensor([WIDTH - 0.5, HEIGHT - 0.5, WIDTH, HEIGHT])
    boxes[:, 2] = torch.tensor([0.0, 0, 0, 0])
    boxes[:, 3] = torch.tensor([10.0, 0, 10.2, HEIGHT])
    return boxes


def by_torchvision(
    features: list[torch.Tensor], boxes: torch.Tensor, levels: torch.Tensor, settings: PoolSettings
) -> torch.Tensor:
    batch, count = levels.shape
    image = torch.arange(batch).repeat_interleave(count)[:, None].float()
    rois = torch.cat((image, boxes.reshape(-1, 4)), 1)
    every = [
        roi_align(f, rois, settings.size, 1 / s, settings.sampling_ratio, settings.aligned)
        for f, s in zip(features, STRIDES, strict=True)
    ]
    return torch.stack(every)[levels.reshape(-1), torch.arange(len(rois))]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "ratio"), [(7, 2), (14, 1), (3, 3)])
@pytest.mark.parametrize("form", [roi_align_by_sum, roi_align_by_grid])
def test_both_forms_equal_torchvision(form: object, size: int, ratio: int, aligned: bool) -> None:
    settings = PoolSettings(size, ratio, aligned)
    features, boxes = pyramid(), regions()
    levels = torch.randint(0, 4, boxes.shape[:2], generator=torch.Generator().manual_seed(2))
    levels[:, :5] = level_of(boxes, STRIDES)[:, :5]
    assert torch.allclose(
        form(features, STRIDES, boxes, levels, settings),  # type: ignore[operator]
        by_torchvision(features, boxes, levels, settings),
        atol=2e-4,
    )


@pytest.mark.parametrize("form", [roi_align_by_sum, roi_align_by_grid])
def test_gradients_equal_torchvision(form: object) -> None:
    settings = PoolSettings()
    boxes = regions()
    levels = level_of(boxes, STRIDES)
    gradients = []
    for function in (
        lambda f: form(f, STRIDES, boxes, levels, settings),  # type: ignore[operator]
        lambda f: by_torchvision(f, boxes, levels, settings),
    ):
        features = [level.requires_grad_() for level in pyramid()]
        output = function(features)
        (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
        gradients.append([level.grad for level in features])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)


def test_levels_are_chosen_as_in_the_fpn_paper() -> None:
    pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    boxes = torch.cat([regions() * scale for scale in (0.5, 1, 4, 12)], 1)
    features = {str(number): level for number, level in enumerate(pyramid())}
    pooler(features, [boxes[0]], [(HEIGHT, WIDTH)])
    theirs = pooler.map_levels([image_boxes.clone() for image_boxes in boxes])
    large = (boxes[..., 2:] - boxes[..., :2]).amin(-1).reshape(-1) > 0
    assert torch.equal(level_of(boxes, STRIDES).reshape(-1)[large], theirs[large])


def test_pooled_memory_is_channels_last() -> None:
    boxes = regions()
    pooled = roi_align_by_sum(pyramid(), STRIDES, boxes, level_of(boxes, STRIDES), PoolSettings())
    assert pooled.is_contiguous(memory_format=torch.channels_last)


def test_half_precision_features_are_pooled_in_fp32() -> None:
    boxes = regions()
    half = [level.bfloat16() for level in pyramid()]
    pooled = roi_align_by_sum(half, STRIDES, boxes, level_of(boxes, STRIDES), PoolSettings())
    whole = roi_align_by_sum([h.float() for h in half], STRIDES, boxes, level_of(boxes, STRIDES), PoolSettings())
    assert torch.equal(pooled, whole)
