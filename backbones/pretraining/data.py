"""What a pretraining run learns from and is chosen by."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
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
from backbones.pretraining.options import TrainingOptions
from backbones.pretraining.recipes import Recipe, takes_small_pictures
from backbones.pretraining.streams import CentralCrops
from backbones.running.atomic_write import atomic_path
from backbones.running.keyed_random import generator
from backbones.running.progress import progress

logger = logging.getLogger("shortcut")
SMALL_SIDE, SIDE, TEST_SIDE = 32, 224, 256
"""Section 4.2's pictures; section 3.4's crop, and the shorter side that it is cut from in testing."""
_NOISE, _MEAN_BATCH = 32, 64
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


@dataclass(frozen=True)
class MeanPicture:
    """Statistics of a training set's central crops, on the 0..255 scale (sections 3.4 and 4.2).

    Attributes:
        picture: [3, H, W], the mean of every pixel.
        std: [3], the deviation of each channel over pictures and pixels.
        images: how many were looked at.
    """

    picture: Tensor
    std: Tensor
    images: int


def mean_picture(
    data: EncodedPictures, side: int, resize: int, images: int = 0, workers: int = 0, quiet: bool = False
) -> MeanPicture:
    """The mean of central crops of ``side`` from a shorter side of ``resize``.

    Kept in ``$XDG_CACHE_HOME/shortcut`` under a name made of the labels, of fifty of the files and of the arguments, so
    that it is computed once for each training set.

    Args:
        data: picture files.
        side, resize: of the crop.
        images: how many to look at, drawn with a fixed seed; 0 for all.
        workers: processes that decode.
        quiet: no progress bar.
    """
    count = len(data.labels) if images <= 0 else min(images, len(data.labels))
    stored = _cache() / f"mean-{_fingerprint(data, side, resize, count)}.npz"
    if stored.is_file():
        logger.info("mean picture: %s", stored)
        with np.load(stored, allow_pickle=False) as file:
            return MeanPicture(torch.from_numpy(file["picture"]), torch.from_numpy(file["std"]), int(file["images"]))
    chosen = np.sort(generator(count).permutation(len(data.labels))[:count]).tolist()
    convention = InputConvention((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size=(side, side), resize=resize)
    mean = _measure(CentralCrops(data, chosen, convention, _MEAN_BATCH), workers, quiet)
    stored.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(stored) as partial, partial.open("wb") as stream:
        np.savez(stream, picture=mean.picture.numpy(), std=mean.std.numpy(), images=mean.images)
    logger.info("mean picture of %d images: %s", mean.images, stored)
    return mean


def _measure(crops: CentralCrops, workers: int, quiet: bool) -> MeanPicture:
    total, squares, images = torch.zeros(1), torch.zeros(3, dtype=torch.float64), 0
    with progress("mean picture", len(crops), quiet=quiet) as bar:
        for pixels, _ in crops.loader(workers):
            batch = pixels.permute(0, 3, 1, 2).double()
            total = total + batch.sum(0)
            squares += batch.square().sum((0, 2, 3))
            images += len(batch)
            bar.advance()
    picture = total / images
    variance = squares / (images * picture[0].numel()) - picture.mean((1, 2)).square()
    return MeanPicture(picture.float(), variance.sqrt().float(), images)


def _fingerprint(data: EncodedPictures, side: int, resize: int, count: int) -> str:
    digest = hashlib.sha256(f"{type(data).__name__} {side} {resize} {count} {len(data.labels)}".encode())
    digest.update(np.ascontiguousarray(data.labels).tobytes())
    for number in range(0, len(data.labels), max(1, len(data.labels) // 50)):
        digest.update(data.content(number))
    return digest.hexdigest()[:16]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shortcut"
