"""A segmenter for people: pictures of any size in, the class of each of their pixels out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch

from backbones.images import Picture
from detection.detector import PictureModel
from detection.segmentation.fcn import FCN
from detection.segmentation.framing import segment_in_order, segment_pictures
from detection.segmentation.maps import SegmentationMap


class Segmenter(PictureModel, FCN):
    """``FCN`` with the methods that files and pictures need."""

    task = "segmentation"

    def predict(self, images: Any, batch_size: int = 8) -> SegmentationMap | list[SegmentationMap]:
        """Label the pixels of pictures.

        Args:
            images: a path, the bytes of a file, a Pillow image, a uint8 array [H, W, 3] or a uint8 tensor [3, H, W],
                of any size; or a sequence of these.
            batch_size: at most so many at once.

        Returns:
            One result for one picture, a list for a sequence: labels and scores [H, W] at the picture's own size,
            tensors on the CPU.

        Raises:
            InputError: something is no picture; the message names it.
        """
        return segment_in_order(self.predict_each, images, batch_size, to_tensors)

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, SegmentationMap]]:
        """The same over a stream, as numpy, in the order in which batches fill: (place in the stream, labels)."""
        return segment_pictures(self.segment_arrays, images, self.settings.input, batch_size)

    def segment_arrays(self, images: Picture, sizes: Any) -> SegmentationMap:
        """``segment`` for numpy: [B, H, W, 3] uint8 and sizes [B, 2] -> labels and scores [B, H, W]."""
        found = self.on_arrays(self.segment, images, sizes)
        return SegmentationMap(found.labels.cpu().numpy(), found.scores.cpu().numpy(), self.classes)


def to_tensors(found: SegmentationMap) -> SegmentationMap:
    """Labels and scores as tensors."""
    return replace(found, labels=torch.from_numpy(found.labels), scores=torch.from_numpy(found.scores))
