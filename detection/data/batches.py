"""Batches: which images at which size, a function of the seed and the step; and read and padded, by workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from backbones.data.order import EndlessOrder
from backbones.images import Size, fit_size, padded_size, resize
from backbones.running.keyed_random import fold, generator
from detection.data.annotations import DetectionData, Objects
from detection.masks.grids import CELLS, object_grids
from detection.targets import BatchTargets, Targets

SLOTS = 8
"""Ground-truth slots come in multiples of this, so that few different shapes occur."""
GROUPED_BATCHES = 32
"""Portrait and landscape images are separated among so many batches at a time; more would shuffle less."""
Kind = TypeVar("Kind", bound=BatchTargets)


@dataclass(frozen=True)
class BatchPlan:
    """One global batch, before any image is read.

    Attributes:
        images: [B] indices into the data.
        shorter: the shorter side that each image is resized to.
        mirrored: whether each is mirrored.
        padded: (height, width) of the batch; the same on every process.
    """

    images: NDArray[np.int64]
    shorter: tuple[int, ...]
    mirrored: tuple[bool, ...]
    padded: Size


class BatchPlanner:
    """Plans batches of similar aspect ratio from an endless shuffled order.

    Args:
        sizes: (height, width) of every image [N, 2].
        batch_size: images of a global batch.
        seed: of all draws.
        shorter: the shorter sides to draw from (scale jitter).
        longer: limit on the longer side.
        mirrored: whether to mirror half of the images.
        multiple: of which padded sizes are multiples.
        few_sizes: pad to one of at most three sizes, which hold all landscapes, all portraits, and both, whatever is
            drawn: for compiled steps, of which every size takes another.
    """

    def __init__(
        self,
        sizes: NDArray[np.int64],
        batch_size: int,
        seed: int,
        *,
        shorter: tuple[int, ...],
        longer: int,
        mirrored: bool,
        multiple: int = 32,
        few_sizes: bool = False,
    ) -> None:
        self.sizes, self.batch_size, self.seed = sizes, batch_size, seed
        self.shorter, self.longer, self.mirrored, self.multiple = shorter, longer, mirrored, multiple
        self._order = EndlessOrder(len(sizes), seed)
        self._portrait = sizes[:, 0] > sizes[:, 1]
        self._group: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._largest = {turned: self._largest_of(turned) for turned in (False, True)} if few_sizes else None

    def plan(self, step: int) -> BatchPlan:
        """The batch of step ``step`` (from 0)."""
        images = self._images(step)
        draws = [generator(self.seed, step, int(image)).random(2) for image in images]
        shorter = tuple(self.shorter[int(draw[0] * len(self.shorter))] for draw in draws)
        mirrored = tuple(self.mirrored and bool(draw[1] < 0.5) for draw in draws)
        if self._largest is None:
            sizes = [
                fit_size(self._size(image), side, self.longer) for image, side in zip(images, shorter, strict=True)
            ]
        else:
            sizes = [self._largest[turned] for turned in set(self._portrait[images].tolist())]
        return BatchPlan(images, shorter, mirrored, padded_size(_around(sizes), self.multiple))

    def _largest_of(self, portrait: bool) -> Size:
        """What holds every image of one orientation at the largest of the shorter sides."""
        each = np.unique(self.sizes[self._portrait == portrait], axis=0).tolist()
        return _around([fit_size((height, width), max(self.shorter), self.longer) for height, width in each])

    def _images(self, step: int) -> NDArray[np.int64]:
        """Cut the order into groups of batches, and sort each group's images by orientation."""
        group, within = divmod(step, GROUPED_BATCHES)
        if self._group[0] != group:
            length = self.batch_size * GROUPED_BATCHES
            images = self._order.at(group * length, length)
            by_aspect = images[np.argsort(self._portrait[images], kind="stable")].reshape(GROUPED_BATCHES, -1)
            shuffled = generator(self.seed, group, len(self.sizes)).permutation(GROUPED_BATCHES)
            self._group = (group, by_aspect[shuffled])
        return np.asarray(self._group[1][within])

    def _size(self, image: int) -> Size:
        height, width = self.sizes[image]
        return int(height), int(width)


def _around(sizes: Sequence[Size]) -> Size:
    """The least size that holds all."""
    return max((size[0] for size in sizes), default=0), max((size[1] for size in sizes), default=0)


@dataclass(frozen=True)
class Batch(Generic[Kind]):
    """One process's part of a global batch.

    Attributes:
        images: [b, 3, H, W] uint8, in channels-last memory.
        targets: the objects, or the labels of pixels.
        numbers: the images' places in the data.
    """

    images: Tensor
    targets: Kind
    numbers: tuple[int, ...]

    def pin_memory(self) -> Batch[Kind]:
        """The same in page-locked memory (called by the data loader)."""
        return Batch(self.images.pin_memory(), self.targets.pin_memory(), self.numbers)


class TrainingBatches(Dataset[Batch[Targets]]):
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

    def __getitem__(self, step: int) -> Batch[Targets]:
        plan = self.planner.plan(step)
        share = len(plan.images) // self.world_size
        mine = range(self.rank * share, (self.rank + 1) * share)
        images = np.zeros((share, *plan.padded, 3), np.uint8)
        prepared = [self._prepare(plan, number, images[place]) for place, number in enumerate(mine)]
        sizes, objects, grids = zip(*prepared, strict=True)
        numbers = tuple(int(plan.images[number]) for number in mine)
        keys = [fold(self.planner.seed, step, number) for number in numbers]
        targets = self._pad(objects, sizes, keys)
        if self.masks:
            targets = replace(targets, masks=_pad_grids(grids, targets.boxes.shape[1]))
        return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), targets, numbers)

    def _prepare(
        self, plan: BatchPlan, number: int, canvas: np.ndarray
    ) -> tuple[Size, Objects, NDArray[np.uint8] | None]:
        """Draw one image into its place in the batch; its valid size, and its objects at that size.

        Their masks each lie over the object's own box, which resizing does not change.
        """
        image = int(plan.images[number])
        original = self.data.annotations.size(image)
        height, width = fit_size(original, plan.shorter[number], self.planner.longer)
        picture = resize(self.data.pictures[image], (height, width))
        found = self.data.annotations.of(image)
        boxes = found.boxes * (np.array([width, height] * 2) / np.array(original[::-1] * 2))
        grids = object_grids(found, original) if self.masks else None
        if plan.mirrored[number]:
            picture = picture[:, ::-1]
            boxes = np.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
            grids = None if grids is None else grids[:, :, ::-1]
        canvas[:height, :width] = picture
        return (height, width), replace(found, boxes=boxes), grids

    def _pad(self, objects: Sequence[Objects], sizes: Sequence[Size], keys: Sequence[int]) -> Targets:
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


def _pad_grids(grids: Sequence[NDArray[np.uint8]], slots: int) -> Tensor:
    padded = np.zeros((len(grids), slots, CELLS, CELLS), np.uint8)
    for row, found in enumerate(grids):
        padded[row, : len(found)] = found
    return torch.from_numpy(padded)
