"""ONNX's own operators say what ours say."""

from __future__ import annotations

import pytest
import torch

from deploy.operators import nms_by_operator, roi_align_by_operator
from detection.boxes import area
from detection.nms import nms_by_kernel
from detection.roi_align import roi_align_by_sum
from detection.settings import PoolSettings


def boxes_in(batch: int, count: int, size: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, count, 2, generator=generator) * size * 0.7
    extent = torch.rand(batch, count, 2, generator=generator) * size * 0.3 + 2
    return torch.cat((corner, corner + extent), -1)


@pytest.mark.parametrize("labelled", [False, True])
def test_suppression_by_classes_is_that_of_boxes_moved_apart(labelled: bool) -> None:
    boxes = boxes_in(3, 80, 60, 0)
    valid = torch.rand(3, 80, generator=torch.Generator().manual_seed(1)) > 0.2
    labels = torch.arange(80).remainder(4).expand(3, -1) if labelled else None
    keep, exact = nms_by_operator(boxes, valid, 0.4, labels, classes=4)
    assert torch.equal(keep, nms_by_kernel(boxes, valid, 0.4, labels)[0])
    assert 0 < keep.sum() < valid.sum()
    assert exact.all()
    assert exact.shape == (3,)


@pytest.mark.parametrize("aligned", [True, False])
def test_one_operator_pools_from_all_levels(aligned: bool) -> None:
    """Up to the borders of every level, which is where the stack could leak from one into the next."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 3, 64 // s, 96 // s, generator=generator) for s in (4, 8, 16)]
    boxes = boxes_in(2, 60, 64, 2)
    boxes[:, :20, 2:] = torch.tensor([96.0, 64.0])
    boxes[:, 10:30, :2] = 0
    levels = (area(boxes).sqrt() > 20).long() + (area(boxes).sqrt() > 40).long()
    assert set(levels.unique().tolist()) == {0, 1, 2}
    settings = PoolSettings(5, 2, aligned)
    pooled = roi_align_by_operator(features, (4, 8, 16), boxes, levels, settings)
    assert torch.allclose(pooled, roi_align_by_sum(features, (4, 8, 16), boxes, levels, settings), atol=1e-5)
