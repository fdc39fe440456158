"""A segmenter for people: pictures of any size in, the class of each of their pixels out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from backbones.images import Picture
from backbones.running.precision import autocast
from detection.segmentation.fcn import FCN
from detection.segmentation.framing import segment_pictures
from detection.segmentation.maps import SegmentationMap


class Segmenter(FCN):
    """``FCN`` with the methods that files and pictures need."""

    task = "segmentation"
    precision: str = "fp32"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        return self.settings.classes

    def predict(self, images: Sequence[Any], batch_size: int = 8) -> list[SegmentationMap]:
        """Label the pixels of pictures.

        Args:
            images: paths, bytes, Pillow images or uint8 arrays [H, W, 3], of any size.
            batch_size: at most so many at once.

        Returns:
            For each picture labels and scores [H, W] at its own size, tensors on the CPU.

        Raises:
            InputError: something is no picture; the message names it.
        """
        found = dict(self.predict_each(images, batch_size))
        maps = (found[number] for number in range(len(images)))
        return [SegmentationMap(torch.from_numpy(part.labels), torch.from_numpy(part.scores)) for part in maps]

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, SegmentationMap]]:
        """The same over a stream, as numpy, in the order in which batches fill: (place in the stream, labels)."""
        return segment_pictures(self.segment_arrays, images, self.settings.input, batch_size)

    @torch.inference_mode()
    def segment_arrays(self, images: Picture, sizes: Any) -> SegmentationMap:
        """``segment`` for numpy: [B, H, W, 3] uint8 and sizes [B, 2] -> labels and scores [B, H, W]."""
        training = self.training
        self.eval()
        device = self.normalize.mean.device
        batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        with autocast(device, self.precision):
            found = self.segment(batch, torch.from_numpy(sizes).to(device))
        self.train(training)
        return SegmentationMap(found.labels.cpu().numpy(), found.scores.cpu().numpy())
