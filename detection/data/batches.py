"""Planned batches, read and padded: what the data loader's workers do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from backbones.images import fit_size, resize
from backbones.running.keyed_random import fold
from detection.data.annotations import DetectionData, Objects
from detection.data.plan import BatchPlan, BatchPlanner
from detection.masks.grids import CELLS, object_grids
from detection.targets import Targets

SLOTS = 8
"""Ground-truth slots come in multiples of this, so that few different shapes occur."""


@dataclass(frozen=True)
class Batch:
    """One process's part of a global batch.

    Attributes:
        images: [b, 3, H, W] uint8, in channels-last memory.
        targets: the objects.
        numbers: the images' places in the data.
    """

    images: Tensor
    targets: Targets
    numbers: tuple[int, ...]

    def pin_memory(self) -> Batch:
        """The same in page-locked memory (called by the data loader)."""
        return Batch(self.images.pin_memory(), self.targets.pin_memory(), self.numbers)


class TrainingBatches(Dataset[Batch]):
    """Batches by step: ``batches[step]``.

    Args:
        data: images and objects.
        planner: of the global batches.
        rank, world_size: which part of each batch to read.
        learn_ignored: treat crowds and difficult objects as objects instead of leaving them out of the losses.
        masks: prepare the objects' masks too.
    """

    def __init__(
        self,
        data: DetectionData,
        planner: BatchPlanner,
        rank: int = 0,
        world_size: int = 1,
        learn_ignored: bool = False,
        masks: bool = False,
    ) -> None:
        self.data, self.planner = data, planner
        self.rank, self.world_size = rank, world_size
        self.learn_ignored, self.masks = learn_ignored, masks

    def __getitem__(self, step: int) -> Batch:
        plan = self.planner.plan(step)
        share = len(plan.images) // self.world_size
        mine = range(self.rank * share, (self.rank + 1) * share)
        images = np.zeros((share, *plan.padded, 3), np.uint8)
        objects, sizes, grids = [], [], []
        for place, number in enumerate(mine):
            size, found = self._prepare(plan, number, images[place])
            sizes.append(size)
            objects.append(found)
            if self.masks:
                grids.append(self._grids(plan, number))
        keys = [fold(self.planner.seed, plan.step, int(plan.images[number])) for number in mine]
        targets = self._pad(objects, sizes, keys)
        if self.masks:
            targets = replace(targets, masks=_pad_grids(grids, targets.boxes.shape[1]))
        numbers = tuple(int(plan.images[number]) for number in mine)
        return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), targets, numbers)

    def _prepare(self, plan: BatchPlan, number: int, canvas: np.ndarray) -> tuple[tuple[int, int], Objects]:
        """Draw one image into its place in the batch; its valid size, and its objects at that size."""
        image = int(plan.images[number])
        original = self.data.annotations.size(image)
        height, width = fit_size(original, plan.shorter[number], self.planner.longer)
        picture = resize(self.data.pictures[image], (height, width))
        found = self.data.annotations.of(image)
        boxes = found.boxes * (np.array([width, height] * 2) / np.array(original[::-1] * 2))
        if plan.mirrored[number]:
            picture = picture[:, ::-1]
            boxes = np.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
        canvas[:height, :width] = picture
        return (height, width), replace(found, boxes=boxes)

    def _grids(self, plan: BatchPlan, number: int) -> NDArray[np.uint8]:
        """Masks of one image's objects, each over its own box, which resizing does not change."""
        image = int(plan.images[number])
        grids = object_grids(self.data.annotations.of(image), self.data.annotations.size(image))
        return grids[:, :, ::-1] if plan.mirrored[number] else grids

    def _pad(self, objects: list[Objects], sizes: list[tuple[int, int]], keys: list[int]) -> Targets:
        most = max(len(found.labels) for found in objects)
        slots = max(1, -(-most // SLOTS)) * SLOTS
        boxes = np.zeros((len(objects), slots, 4), np.float32)
        labels = np.zeros((len(objects), slots), np.int64)
        present = np.zeros((len(objects), slots), bool)
        ignored = np.zeros((len(objects), slots), bool)
        for row, found in enumerate(objects):
            count = len(found.labels)
            skipped = found.ignored & (not self.learn_ignored)
            boxes[row, :count], labels[row, :count] = found.boxes, found.labels
            present[row, :count], ignored[row, :count] = ~skipped, skipped
        return Targets(
            torch.from_numpy(boxes),
            torch.from_numpy(labels),
            torch.from_numpy(present),
            torch.from_numpy(ignored),
            torch.tensor(sizes),
            torch.tensor(keys),
        )


def _pad_grids(grids: list[NDArray[np.uint8]], slots: int) -> Tensor:
    padded = np.zeros((len(grids), slots, CELLS, CELLS), np.uint8)
    for row, found in enumerate(grids):
        padded[row, : len(found)] = found
    return torch.from_numpy(padded)
