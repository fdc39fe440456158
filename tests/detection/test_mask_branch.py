"""The mask branch: targets against a slow form, losses by hand, and one picture learned by heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from detection.data.batches import BatchPlanner, TrainingBatches
from detection.data.digits import compose_scene, read_digits
from detection.masks.branch import MaskBranch, mask_loss, mask_probabilities, mask_targets
from detection.masks.grids import CELLS, object_grids
from detection.operators import portable
from detection.settings import InputSettings, MaskSettings, PoolSettings, SamplingSettings
from detection.targets import Targets
from tests.detection.builders import small_detector


def test_targets_are_the_regions_view_of_the_objects_mask() -> None:
    """A disc, seen through boxes around, inside and beside its own."""
    y, x = np.mgrid[:CELLS, :CELLS] + 0.5
    disc = ((x - 28) ** 2 + (y - 28) ** 2 < 25**2).astype(np.uint8) * 255
    box = torch.tensor([[10.0, 20, 66, 76]])  # a pixel is a cell
    for region in ([10.0, 20, 66, 76], [0.0, 0, 100, 90], [20.0, 30, 50, 60], [38.0, 20, 94, 76], [70.0, 80, 90, 99]):
        wanted = np.zeros((14, 14))
        for i in range(14):
            for j in range(14):
                cy = region[1] + (i + 0.5) / 14 * (region[3] - region[1]) - 20
                cx = region[0] + (j + 0.5) / 14 * (region[2] - region[0]) - 10
                wanted[i, j] = (cx - 28) ** 2 + (cy - 28) ** 2 < 25**2
        found = mask_targets(torch.from_numpy(disc)[None], box, torch.tensor([region]), 14)[0].numpy()
        assert (found != wanted).sum() <= 6  # at the edge, where cells are half covered
        assert set(np.unique(found)) <= {0, 1}


def test_the_loss_counts_positive_regions_and_their_own_class() -> None:
    logits = torch.zeros(3, 2, 4, 4)
    logits[0, 1], logits[1, 0], logits[2] = 2.0, -1.0, 50.0
    wanted = torch.ones(3, 4, 4)
    loss = mask_loss(logits, wanted, torch.tensor([1, 0, -1]), torch.tensor([True, True, False]))
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(1.0))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert mask_loss(logits, wanted, torch.zeros(3).long(), torch.zeros(3, dtype=torch.bool)).item() == 0
    probabilities = mask_probabilities(logits, torch.tensor([[1, 0, 0]]))
    assert probabilities.shape == (1, 3, 4, 4)
    assert probabilities[0, :2, 0, 0].tolist() == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1))])


def test_the_branch_doubles_the_resolution() -> None:
    branch = MaskBranch(8, 3, MaskSettings(convs=2, channels=6))
    assert branch(torch.zeros(5, 8, 7, 7)).shape == (5, 3, 14, 14)
    assert len(branch.convs) == 2


def test_grids_of_a_batch_are_the_masks_over_their_boxes() -> None:
    data = replace(read_digits("val"), mirrored=True)
    planner = BatchPlanner(data.annotations.sizes, 6, 0, shorter=(128,), longer=128, mirrored=True)
    batch, plan = TrainingBatches(data, planner, masks=True)[0], planner.plan(0)
    assert batch.targets.masks is not None
    assert batch.targets.masks.shape[2:] == (CELLS, CELLS)
    assert len(set(plan.mirrored)) == 2
    for row, (image, turned) in enumerate(zip(plan.images, plan.mirrored, strict=True)):
        scene = compose_scene("val", int(image))
        for slot, mask in enumerate(scene.masks):
            x1, y1, x2, y2 = scene.boxes[slot]
            crop = mask[y1:y2, x1:x2]
            crop = crop[:, ::-1] if turned else crop
            grid = batch.targets.masks[row, slot].numpy() / 255
            assert grid.mean() == pytest.approx(crop.mean(), abs=0.06)
            rows = np.minimum((np.arange(CELLS) + 0.5) / CELLS * crop.shape[0], crop.shape[0] - 1).astype(int)
            columns = np.minimum((np.arange(CELLS) + 0.5) / CELLS * crop.shape[1], crop.shape[1] - 1).astype(int)
            assert ((grid >= 0.5) == crop[rows][:, columns]).mean() > 0.9
    assert object_grids(data.annotations.of(0), (128, 128)).dtype == np.uint8


MASKS = MaskSettings(PoolSettings(size=8), convs=1, channels=16)


@pytest.mark.parametrize("head", ["fpn", "c4"])
def test_masks_are_trained_and_predicted_at_the_pictures_size(head: str) -> None:
    detector = small_detector(head, masks=MASKS if head == "fpn" else replace(MASKS, convs=0)).train()
    data = read_digits("val")
    planner = BatchPlanner(data.annotations.sizes, 2, 0, shorter=(128,), longer=128, mirrored=False)
    batch = TrainingBatches(data, planner, masks=True)[0]
    targets = replace(batch.targets, labels=batch.targets.labels % 3)
    losses = detector.losses(batch.images, targets)
    sum(losses.values()).backward()
    assert losses["masks"].item() > 0
    assert all(parameter.grad is not None for parameter in detector.masks.parameters())
    detector.settings = replace(detector.settings, output=replace(detector.settings.output, score_threshold=0.0))
    for operators in (detector.operators, portable()):
        detector.operators = operators
        found = detector.predict(np.zeros((70, 90, 3), np.uint8), threshold=0)
        assert len(found) == len(found.masks) > 0
        assert np.asarray(found.masks).shape == (len(found), 70, 90)


def test_a_picture_without_objects_has_no_mask_loss() -> None:
    detector = small_detector(masks=MASKS).train()
    data = read_digits("val")
    planner = BatchPlanner(data.annotations.sizes, 2, 0, shorter=(128,), longer=128, mirrored=False)
    batch = TrainingBatches(data, planner, masks=True)[0]
    empty = replace(batch.targets, present=torch.zeros_like(batch.targets.present))
    losses = detector.losses(batch.images, empty)
    sum(losses.values()).backward()
    assert losses["masks"].item() == 0
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)


def test_masks_of_one_picture_are_learned_by_heart() -> None:
    y, x = np.mgrid[:64, :64]
    shapes = [(x - 17) ** 2 / 169 + (y - 17) ** 2 / 121 < 1, abs(x - 46) + abs(y - 40) < 14]
    picture = np.random.default_rng(0).integers(0, 40, (64, 64, 3), np.uint8)
    for shape, color in zip(shapes, ((250, 60, 40), (60, 240, 70)), strict=True):
        picture[shape] = color
    boxes = [[4, 6, 30, 28], [33, 27, 60, 54]]
    grids = np.stack([_grid(shape, box) for shape, box in zip(shapes, boxes, strict=True)])
    detector = small_detector(
        input=InputSettings(64, 64), channels=32, vector=64, roi_sampling=SamplingSettings(32, 0.5, 0.5, 0.5),
        masks=MaskSettings(PoolSettings(size=14), convs=2, channels=32), rpn_beta=0.0, roi_beta=0.0,
    ).train()  # fmt: skip
    images = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.02, momentum=0.9)
    for step in range(160):
        optimizer.param_groups[0]["lr"] = 0.02 * min(1.0, (step + 1) / 20) * (1 if step < 130 else 0.1)
        targets = Targets(
            torch.tensor(boxes, dtype=torch.float32)[None], torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool),
            torch.zeros(1, 2, dtype=torch.bool), torch.tensor([[64, 64]]), torch.tensor([step]),
            torch.from_numpy(grids)[None],
        )  # fmt: skip
        optimizer.zero_grad()
        sum(detector.losses(images, targets).values()).backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
    found = detector.eval().predict(picture)
    masks, labels = np.asarray(found.masks), found.labels.tolist()
    for label, shape in enumerate(shapes):
        mask = masks[labels.index(label)]
        assert (mask & shape).sum() / (mask | shape).sum() > 0.85


def _grid(shape: np.ndarray, box: list[int]) -> np.ndarray:
    x1, y1, x2, y2 = box
    rows = ((np.arange(CELLS) + 0.5) / CELLS * (y2 - y1) + y1).astype(int)
    columns = ((np.arange(CELLS) + 0.5) / CELLS * (x2 - x1) + x1).astype(int)
    return np.asarray(shape)[np.ix_(rows, columns)].astype(np.uint8) * 255
