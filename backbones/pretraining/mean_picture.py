"""The per-pixel mean of a training set (sections 3.4 and 4.2), computed once and kept."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backbones.convention import InputConvention
from backbones.data.labelled import EncodedPictures
from backbones.pretraining.streams import CentralCrops
from backbones.running.atomic_write import atomic_path
from backbones.running.keyed_random import generator
from backbones.running.progress import progress

logger = logging.getLogger("shortcut")
_BATCH = 64


@dataclass(frozen=True)
class MeanPicture:
    """Statistics of central crops, on the 0..255 scale.

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
    mean = _measure(CentralCrops(data, chosen, convention, _BATCH), workers, quiet)
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
