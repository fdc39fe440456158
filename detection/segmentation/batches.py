"""Planned crops, read and padded: what the data loader's workers do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from backbones.images import Labels, Picture, resize, resize_nearest
from detection.segmentation.crops import Crop, CropPlanner
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.settings import IGNORED
from detection.segmentation.targets import SegmentationTargets


@dataclass(frozen=True)
class CropBatch:
    """One process's part of a global batch.

    Attributes:
        images: [b, 3, H, W] uint8, in channels-last memory.
        targets: their labels.
        numbers: the images' places in the data.
    """

    images: Tensor
    targets: SegmentationTargets
    numbers: tuple[int, ...]

    def pin_memory(self) -> CropBatch:
        """The same in page-locked memory (called by the data loader)."""
        return CropBatch(self.images.pin_memory(), self.targets.pin_memory(), self.numbers)


class TrainingCrops(Dataset[CropBatch]):
    """Batches by step: ``crops[step]``.

    Args:
        data: images and labels.
        planner: of the global batches.
        rank, world_size: which part of each batch to read.
    """

    def __init__(self, data: SegmentationData, planner: CropPlanner, rank: int = 0, world_size: int = 1) -> None:
        self.data, self.planner = data, planner
        self.rank, self.world_size = rank, world_size

    def __getitem__(self, step: int) -> CropBatch:
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
        return CropBatch(torch.from_numpy(images).permute(0, 3, 1, 2), targets, tuple(plan.images[mine].tolist()))


def cut(picture: Picture, labels: Labels, crop: Crop, side: int) -> tuple[Picture, Labels]:
    """Resize an image and its labels, and take a crop of at most ``side`` x ``side`` pixels of both."""
    part = (slice(crop.top, crop.top + side), slice(crop.left, crop.left + side))
    seen, known = resize(picture, crop.size)[part], resize_nearest(labels, crop.size)[part]
    return (seen[:, ::-1], known[:, ::-1]) if crop.mirrored else (seen, known)
