"""Pictures from files to batches, in worker processes: decoded, cropped, resized (section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from backbones.convention import InputConvention
from backbones.data.decoding import decode
from backbones.data.labelled import EncodedPictures
from backbones.data.order import EndlessOrder
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.pretraining.augmentation import Crop, draws_needed, resized_crop, scale_jitter
from backbones.running import distributed
from backbones.running.keyed_random import generator


class StreamBatch(NamedTuple):
    """One process's part of a training batch.

    Attributes:
        images: [B, H, W, 3] uint8.
        labels: [B].
        lighting: [B, 6] in [0, 1), the draws of the colour augmentation.
    """

    images: Tensor
    labels: Tensor
    lighting: Tensor


class TrainingStream(Dataset[StreamBatch]):
    """Batch ``step`` of a run, whichever worker makes it: a function of the seed and the step.

    Args:
        data: picture files.
        order: of the pictures.
        batch_size: over all processes.
        seed: of the draws.
        side: of the square crop.
        augmentation: "scale-jitter" or "resized-crop".
    """

    def __init__(
        self,
        data: EncodedPictures,
        order: EndlessOrder,
        batch_size: int,
        seed: int,
        side: int = 224,
        augmentation: str = "scale-jitter",
    ) -> None:
        self.data, self.order, self.batch_size, self.seed = data, order, batch_size, seed
        self.side, self.augmentation = side, augmentation
        self.rank, self.share = distributed.rank(), batch_size // distributed.world_size()

    def __getitem__(self, step: int) -> StreamBatch:
        first = self.rank * self.share
        chosen = self.order.at(step * self.batch_size + first, self.share)
        draws = [generator(self.seed, step, first + place).random(6 + draws_needed(self.augmentation))
                 for place in range(self.share)]  # fmt: skip
        images = [self._cropped(int(number), tuple(d[6:].tolist())) for number, d in zip(chosen, draws, strict=True)]
        return StreamBatch(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(self.data.labels[chosen]),
            torch.from_numpy(np.stack([d[:6] for d in draws]).astype(np.float32)),
        )

    def _cropped(self, number: int, draws: tuple[float, ...]) -> Picture:
        picture = decode(self.data.content(number), self.data.name(number))
        size = (picture.shape[0], picture.shape[1])
        draw_crop = resized_crop if self.augmentation == "resized-crop" else scale_jitter
        return cut(picture, draw_crop(draws, size, self.side))


def cut(picture: Picture, crop: Crop) -> Picture:
    """The window of a crop, resized as Pillow does it (bilinear with antialiasing). [H, W, 3] -> [*crop.size, 3]."""
    height, width = crop.size
    window = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=crop.box)
    pixels = np.asarray(window)
    return np.ascontiguousarray(pixels[:, ::-1]) if crop.mirrored else pixels


class CentralCrops(Dataset[tuple[Tensor, Tensor]]):
    """Batches of central crops, framed as for testing: [B, H, W, 3] uint8 and labels [B].

    Args:
        data: picture files.
        numbers: which of them.
        convention: shorter side and crop.
        batch_size: pictures of a batch; the last may have fewer.
    """

    def __init__(
        self, data: EncodedPictures, numbers: Sequence[int], convention: InputConvention, batch_size: int
    ) -> None:
        self.data, self.numbers, self.convention, self.batch_size = data, numbers, convention, batch_size

    def __len__(self) -> int:
        return -(-len(self.numbers) // self.batch_size)

    def __getitem__(self, batch: int) -> tuple[Tensor, Tensor]:
        numbers = list(self.numbers[batch * self.batch_size : (batch + 1) * self.batch_size])
        pictures = [decode(self.data.content(number), self.data.name(number)) for number in numbers]
        framed = np.stack([frame_for_classifier(picture, self.convention) for picture in pictures])
        return torch.from_numpy(framed), torch.from_numpy(self.data.labels[numbers])

    def loader(self, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
        """All batches, in order."""
        return DataLoader(self, batch_size=None, num_workers=workers)
