"""Batches of crops: which images at which scale, and which part of them; and read and padded, by workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from backbones.data.order import EndlessOrder
from backbones.images import Labels, Picture, Size, fit_size, resize, resize_nearest
from backbones.running.keyed_random import generator
from detection.data.batches import Batch
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.settings import IGNORED
from detection.targets import SegmentationTargets


@dataclass(frozen=True)
class Crop:
    """A part of an image.

    Attributes:
        size: (height, width) that the whole image is resized to.
        top, left: where the crop begins in it.
        mirrored: whether the crop is mirrored.
    """

    size: Size
    top: int
    left: int
    mirrored: bool


@dataclass(frozen=True)
class CropPlan:
    """One global batch, before any image is read.

    Attributes:
        images: [B] indices into the data.
        crops: one for each of them.
    """

    images: NDArray[np.int64]
    crops: tuple[Crop, ...]


class CropPlanner:
    """Plans batches of square crops from an endless shuffled order: scale, place and mirroring drawn for each image.

    Args:
        sizes: (height, width) of every image [N, 2].
        batch_size: images of a global batch.
        seed: of all draws.
        side: of a crop; smaller images are padded.
        shorter: sides to draw from, of an image at scale 1.
        longer: limit on its longer side.
        scales: the least and the largest scale.
        mirrored: whether to mirror half of the images.
    """

    def __init__(
        self,
        sizes: NDArray[np.int64],
        batch_size: int,
        seed: int,
        *,
        side: int,
        shorter: Sequence[int],
        longer: int,
        scales: tuple[float, float],
        mirrored: bool,
    ) -> None:
        self.sizes, self.batch_size, self.seed = sizes, batch_size, seed
        self.side, self.shorter, self.longer = side, shorter, longer
        self.scales, self.mirrored = scales, mirrored
        self._order = EndlessOrder(len(sizes), seed)

    def plan(self, step: int) -> CropPlan:
        """The batch of step ``step`` (from 0)."""
        images = self._order.at(step * self.batch_size, self.batch_size)
        return CropPlan(images, tuple(self._crop(step, int(image)) for image in images))

    def _crop(self, step: int, image: int) -> Crop:
        scale, down, across, mirror, drawn = generator(self.seed, step, image).random(5)
        scale = self.scales[0] + scale * (self.scales[1] - self.scales[0])
        height, width = self.sizes[image]
        shorter = self.shorter[int(drawn * len(self.shorter))]
        sides = (max(1, round(side * scale)) for side in (shorter, self.longer))
        size = fit_size((int(height), int(width)), *sides)
        top, left = (
            int(draw * (max(0, extent - self.side) + 1)) for draw, extent in zip((down, across), size, strict=True)
        )
        return Crop(size, top, left, self.mirrored and bool(mirror < 0.5))


class TrainingCrops(Dataset[Batch[SegmentationTargets]]):
    """Batches by step: ``crops[step]``.

    Args:
        data: images and labels.
        planner: of the global batches.
        rank, world_size: which part of each batch to read.
    """

    def __init__(self, data: SegmentationData, planner: CropPlanner, rank: int = 0, world_size: int = 1) -> None:
        self.data, self.planner = data, planner
        self.rank, self.world_size = rank, world_size

    def __getitem__(self, step: int) -> Batch[SegmentationTargets]:
        plan = self.planner.plan(step)
        share, side = len(plan.images) // self.world_size, self.planner.side
        mine = slice(self.rank * share, (self.rank + 1) * share)
        images = np.zeros((share, side, side, 3), np.uint8)
        labels = np.full((share, side, side), IGNORED, np.uint8)
        sizes = []
        for place, (image, crop) in enumerate(zip(plan.images[mine].tolist(), plan.crops[mine], strict=True)):
            picture, known = cut(self.data.images.pictures[image], self.data.labels[image], crop, side)
            height, width = known.shape
            images[place, :height, :width], labels[place, :height, :width] = picture, known
            sizes.append((height, width))
        targets = SegmentationTargets(torch.from_numpy(labels), torch.tensor(sizes))
        return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), targets, tuple(plan.images[mine].tolist()))


def cut(picture: Picture, labels: Labels, crop: Crop, side: int) -> tuple[Picture, Labels]:
    """Resize an image and its labels, and take a crop of at most ``side`` x ``side`` pixels of both."""
    part = (slice(crop.top, crop.top + side), slice(crop.left, crop.left + side))
    seen, known = resize(picture, crop.size)[part], resize_nearest(labels, crop.size)[part]
    return (seen[:, ::-1], known[:, ::-1]) if crop.mirrored else (seen, known)
