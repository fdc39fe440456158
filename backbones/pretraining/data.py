"""What a pretraining run learns from and is chosen by."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.convention import IMAGENET, InputConvention
from backbones.data.arrays import LabelledImages
from backbones.data.datasets import read_classification
from backbones.data.labelled import EncodedPictures, LabelledPictures
from backbones.errors import InputError
from backbones.images import center_crop, fit_size, resize
from backbones.pretraining.mean_picture import mean_picture
from backbones.pretraining.options import TrainingOptions
from backbones.pretraining.recipes import Recipe, takes_small_pictures
from backbones.running.keyed_random import generator

logger = logging.getLogger("shortcut")
SMALL_SIDE, SIDE, TEST_SIDE = 32, 224, 256
"""Section 4.2's pictures; section 3.4's crop, and the shorter side that it is cut from in testing."""
_NOISE = 32
_SMALLEST = 64  # five halvings leave two pixels


@dataclass(frozen=True)
class Datasets:
    """Both splits, either in memory or in files.

    Attributes:
        train, val: of one kind: ``LabelledImages``, or pictures that lie in files.
    """

    train: Any
    val: Any

    @property
    def in_memory(self) -> bool:
        """Whether all pictures have one size and lie in memory."""
        return isinstance(self.train, LabelledImages)

    @property
    def classes(self) -> tuple[str, ...]:
        classes: tuple[str, ...] = self.train.classes
        return classes


def read_datasets(options: TrainingOptions) -> Datasets:
    """The splits that the options name.

    Raises:
        InputError: they cannot be read, or do not fit the network.
    """
    if options.synthetic:
        noise = _noise(options.arch)
        return Datasets(noise, noise)
    read: list[LabelledPictures] = []
    for split in (options.split, options.val_split):
        classes = read[0].classes if read else ()
        data = read_classification(options.dataset, split, classes, options.data_dir, options.download)
        small = takes_small_pictures(options.arch)
        read.append(_in_memory(data) if small and not isinstance(data, LabelledImages) else data)
    datasets = Datasets(*read)
    if len(datasets.train.labels) == 0 or len(datasets.val.labels) == 0:
        raise InputError(f"{options.dataset}: {options.split} or {options.val_split} has no pictures")
    if datasets.in_memory:
        _check_sizes(options.arch, datasets)
    return datasets


def measure_convention(
    data: LabelledImages | EncodedPictures, recipe: Recipe, options: TrainingOptions
) -> tuple[InputConvention, Tensor | None]:
    """The normalization of a training set: its mean picture, or mean and deviation of each channel.

    The paper subtracts the per-pixel mean and does not divide (sections 3.4 and 4.2).
    """
    if isinstance(data, LabelledImages):
        return _of_arrays(data.images, recipe.per_pixel_mean)
    if not recipe.per_pixel_mean:
        return IMAGENET, None
    workers = options.workers if options.workers >= 0 else os.cpu_count() or 1
    mean = mean_picture(data, SIDE, TEST_SIDE, options.mean_images, workers, options.quiet)
    channels = mean.picture.mean((1, 2)).tolist()
    convention = InputConvention((channels[0], channels[1], channels[2]), (1.0, 1.0, 1.0), size=(SIDE, SIDE),
                                 resize=TEST_SIDE)  # fmt: skip
    return convention, mean.picture


def _of_arrays(images: NDArray[np.uint8], per_pixel: bool) -> tuple[InputConvention, Tensor | None]:
    count, height, width, _ = images.shape
    total, squares = np.zeros((height, width, 3)), np.zeros(3)
    for part in np.array_split(images, -(-count // 4096)):
        pixels = part.astype(np.float64)
        total += pixels.sum(0)
        squares += np.square(pixels).sum((0, 1, 2))
    picture = total / count
    mean = [float(value) for value in picture.mean((0, 1))]
    deviation = np.sqrt(squares / (count * height * width) - np.square(mean))
    std = [1.0, 1.0, 1.0] if per_pixel else [float(value) for value in deviation]
    convention = InputConvention((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), size=(height, width))
    return convention, torch.from_numpy(picture).permute(2, 0, 1).float().contiguous() if per_pixel else None


def _in_memory(data: LabelledPictures) -> LabelledImages:
    """Pictures of any size as 32 x 32: shorter side resized, centre cropped."""
    pictures = []
    for number in range(len(data.labels)):
        picture = data.picture(number)
        size = fit_size((picture.shape[0], picture.shape[1]), SMALL_SIDE)
        pictures.append(center_crop(resize(picture, size), SMALL_SIDE))
    return LabelledImages(np.stack(pictures), data.labels, data.classes)


def _noise(arch: str) -> LabelledImages:
    """Random pictures of the paper's size and number of classes, so that timing a step needs no data."""
    side, classes = (SMALL_SIDE, 10) if takes_small_pictures(arch) else (SIDE, 1000)
    rng = generator(0)
    images = rng.integers(0, 256, (_NOISE, side, side, 3)).astype(np.uint8)
    return LabelledImages(images, rng.integers(0, classes, _NOISE), tuple(str(label) for label in range(classes)))


def _check_sizes(arch: str, datasets: Datasets) -> None:
    sizes = [data.images.shape[1:3] for data in (datasets.train, datasets.val)]
    if sizes[0] != sizes[1]:
        raise InputError(f"training pictures are {sizes[0]}, validation pictures {sizes[1]}; they must have one size")
    if not takes_small_pictures(arch) and min(sizes[0]) < _SMALLEST:
        logger.warning(
            "%s is made for pictures of 224; of %d x %d it sees little: resnet20 to resnet1202 are made for those",
            arch, *sizes[0],
        )  # fmt: skip
