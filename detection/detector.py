"""A detector for people: pictures of any size in, detections in their own pixels out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from backbones.images import Picture
from backbones.running.precision import autocast
from detection.detections import Detections
from detection.faster_rcnn import FasterRCNN
from detection.framing import FoundArrays, predict_in_order, predict_pictures
from detection.scoring import DetectionBatch
from detection.settings import DetectorSettings


class Detector(FasterRCNN):
    """``FasterRCNN`` with the methods that files and pictures need."""

    task = "detection"
    precision: str = "fp32"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        return self.settings.classes

    def predict(self, images: Sequence[Any], batch_size: int = 8) -> list[Detections]:
        """Detect in pictures.

        Args:
            images: paths, bytes, Pillow images or uint8 arrays [H, W, 3], of any size.
            batch_size: at most so many at once.

        Returns:
            For each picture its detections, tensors on the CPU, in the picture's pixels.

        Raises:
            InputError: something is no picture; the message names it.
        """
        found = predict_in_order(self.detect_arrays, images, self.settings.input, batch_size)
        return [to_tensors(detections) for detections in found]

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, Detections]]:
        """The same over a stream, as numpy, in the order in which batches fill: (place in the stream, detections)."""
        return predict_pictures(self.detect_arrays, images, self.settings.input, batch_size)

    @torch.inference_mode()
    def detect_arrays(self, images: Picture, sizes: Any) -> FoundArrays:
        """``detect`` for numpy: [B, H, W, 3] uint8 and sizes [B, 2] -> boxes, scores, labels."""
        training = self.training
        self.eval()
        device = self.normalize.mean.device
        batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        with autocast(device, self.precision):
            found = self.detect(batch, torch.from_numpy(sizes).to(device))
        self.train(training)
        return to_arrays(found, self.settings)


def to_arrays(found: DetectionBatch, settings: DetectorSettings) -> FoundArrays:
    """The same as numpy arrays on the CPU."""
    masks = None if found.masks is None else found.masks.float().cpu().numpy()
    boxes, scores, labels = (part.cpu().numpy() for part in (found.boxes, found.scores, found.labels))
    return FoundArrays(boxes, scores, labels, masks, settings.masks is not None and settings.masks.whole_pixels)


def to_tensors(found: Detections) -> Detections:
    """Boxes, scores and labels as tensors; masks stay run lengths."""
    boxes, scores, labels = (torch.from_numpy(part) for part in (found.boxes, found.scores, found.labels))
    return Detections(boxes, scores, labels, found.masks)
