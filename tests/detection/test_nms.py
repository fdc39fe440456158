"""Batched suppression against torchvision's kernel, on a thousand random, clustered and chained cases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from detection import nms as module
from detection.nms import nms_by_fixed_point, nms_by_kernel

KINDS = ("random", "clustered", "chained")


def cases(kind: str, groups: int, count: int, seed: int) -> torch.Tensor:
    """Groups of boxes [G, N, 4], sorted by an imagined score."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    if kind == "random":
        center, size = rand(groups, count, 2) * 600, rand(groups, count, 2) * 150 + 10
    elif kind == "clustered":
        clusters = rand(groups, 20, 2) * 600
        choice = torch.randint(20, (groups, count, 1), generator=generator).expand(-1, -1, 2)
        center = clusters.gather(1, choice) + torch.randn(groups, count, 2, generator=generator) * 12
        size = rand(groups, count, 2) * 30 + 80
    else:  # a sliding window: each box overlaps its neighbours, so suppression runs down the whole chain
        x = torch.linspace(0, 600, count).expand(groups, count) + rand(groups, 1)
        center, size = torch.stack((x, torch.full_like(x, 300)), -1), torch.full((groups, count, 2), 100.0)
    return torch.cat((center - size / 2, center + size / 2), -1)


def by_torchvision(boxes: torch.Tensor, valid: torch.Tensor, threshold: float) -> torch.Tensor:
    keep = torch.zeros_like(valid)
    for group in range(len(boxes)):
        chosen = valid[group].nonzero()[:, 0]
        scores = torch.arange(len(chosen), 0, -1.0)
        keep[group, chosen[nms(boxes[group, chosen], scores, threshold)]] = True
    return keep


@pytest.mark.parametrize("form", [nms_by_kernel, nms_by_fixed_point])
def test_boxes_of_different_labels_never_meet_wherever_they_lie(form: Callable[..., tuple[Tensor, Tensor]]) -> None:
    boxes = torch.tensor([[[-100.0, -100, 10, 10], [-100, -100, 10, 10], [-100, -100, 10, 10]]])
    keep, exact = form(boxes, torch.ones(1, 3, dtype=torch.bool), 0.3, torch.tensor([[0, 1, 0]]))
    assert keep.tolist() == [[True, True, False]]
    assert bool(exact.all())


@pytest.mark.parametrize("form", [nms_by_kernel, nms_by_fixed_point])
@pytest.mark.parametrize("labelled", [True, False])
def test_of_no_boxes_none_stays(form: Callable[..., tuple[Tensor, Tensor]], labelled: bool) -> None:
    labels = torch.zeros(2, 0, dtype=torch.int64) if labelled else None
    keep, exact = form(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool), 0.3, labels)
    assert keep.shape == (2, 0)
    assert exact.tolist() == [True, True]


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_cases_equal_torchvision(kind: str, threshold: float) -> None:
    """167 cases for each kind and threshold: 1,002 in all."""
    boxes = cases(kind, 167, 120, seed=KINDS.index(kind))
    valid = torch.rand(boxes.shape[:2], generator=torch.Generator().manual_seed(1)) > 0.1
    expected = by_torchvision(boxes, valid, threshold)
    for form in (nms_by_kernel, nms_by_fixed_point):
        keep, exact = form(boxes, valid, threshold)
        assert torch.equal(keep, expected)
        assert exact.all()


@pytest.mark.parametrize("kind", KINDS)
def test_large_groups_are_cut_into_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = cases(kind, 2, 1500, seed=5)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    expected = by_torchvision(boxes, valid, 0.6)
    for block in (64, 1000, 4096):
        monkeypatch.setattr(module, "BLOCK", block)
        assert torch.equal(nms_by_fixed_point(boxes, valid, 0.6)[0], expected)


def test_labels_suppress_only_their_own() -> None:
    boxes = cases("clustered", 3, 200, seed=2)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    labels = torch.randint(0, 4, boxes.shape[:2], generator=torch.Generator().manual_seed(3))
    for group in range(3):
        scores = torch.arange(200, 0, -1.0)
        kept = batched_nms(boxes[group].double(), scores.double(), labels[group], 0.5)
        expected = torch.zeros(200, dtype=torch.bool)
        expected[kept] = True
        for form in (nms_by_kernel, nms_by_fixed_point):
            assert torch.equal(form(boxes, valid, 0.5, labels)[0][group], expected)


def test_a_fixed_number_of_rounds_knows_whether_it_was_enough() -> None:
    random, chained = cases("random", 4, 300, seed=0), cases("chained", 4, 300, seed=0)
    boxes = torch.cat((random, chained))
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    expected = by_torchvision(boxes, valid, 0.5)
    keep, exact = nms_by_fixed_point(boxes, valid, 0.5, iterations=12)
    assert exact.tolist() == [True] * 4 + [False] * 4
    assert torch.equal(keep[:4], expected[:4])
    assert not torch.equal(keep[4:], expected[4:])
    keep, exact = nms_by_fixed_point(boxes, valid, 0.5, iterations=120)
    assert exact.all()
    assert torch.equal(keep, expected)


def test_only_chains_within_a_block_cost_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = cases("chained", 2, 300, seed=0)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    monkeypatch.setattr(module, "BLOCK", 32)
    keep, exact = nms_by_fixed_point(boxes, valid, 0.5, iterations=8)
    assert exact.all()
    assert torch.equal(keep, by_torchvision(boxes, valid, 0.5))
    valid[1, 40:] = False  # a chain that is too long in one group says nothing of the other
    monkeypatch.setattr(module, "BLOCK", 128)
    assert nms_by_fixed_point(boxes, valid, 0.5, iterations=8)[1].tolist() == [False, True]


def test_boxes_at_the_threshold_and_boxes_without_area() -> None:
    """Equal boxes, an IoU of exactly the threshold, empty boxes in the same place, and boxes that only touch."""
    whole, half, third = [0.0, 0, 12, 12], [0.0, 0, 12, 6], [0.0, 0, 12, 4]
    point, beside = [3.0, 3, 3, 3], [12.0, 0, 24, 12]
    boxes = torch.tensor([[whole, whole, half, third, point, point, beside], [point] * 7])
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    for labels in (None, torch.zeros(boxes.shape[:2], dtype=torch.int64)):
        keep, exact = nms_by_fixed_point(boxes, valid, 0.5, labels, iterations=3)
        assert keep.tolist() == [[True, False, True, False, True, True, True], [True] * 7]
        assert exact.all()
    assert torch.equal(nms_by_kernel(boxes, valid, 0.5)[0], keep)


@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
@pytest.mark.parametrize("slot", [(0, 3), (1, 2)])
@pytest.mark.parametrize("form", [nms_by_kernel, nms_by_fixed_point])
def test_a_box_that_is_no_number_touches_no_other(
    form: Callable[..., tuple[Tensor, Tensor]], slot: tuple[int, int], strange: float
) -> None:
    """In an empty slot or among the boxes of another picture."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10], [0, 0, 0, 0]]] * 2)
    valid, labels = torch.tensor([[True, True, True, False]] * 2), torch.tensor([[0, 0, 1, 0]] * 2)
    boxes[slot] = strange
    assert form(boxes, valid, 0.5, labels)[0].tolist() == [[True, False, True, False]] * 2


def test_nothing_valid_keeps_nothing() -> None:
    boxes, valid = cases("random", 2, 10, seed=0), torch.zeros(2, 10, dtype=torch.bool)
    for form in (nms_by_kernel, nms_by_fixed_point):
        keep, exact = form(boxes, valid, 0.5)
        assert not keep.any()
        assert exact.all()
