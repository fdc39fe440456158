"""A detector for people: pictures of any size in, detections in their own pixels out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from backbones.images import Picture
from backbones.running.precision import autocast
from detection.detections import Detections
from detection.faster_rcnn import FasterRCNN
from detection.framing import FoundArrays, predict_in_order, predict_pictures
from detection.scoring import DetectionBatch
from detection.settings import DetectorSettings

Found = TypeVar("Found")


class PictureModel(nn.Module):
    """What detectors and segmenters have in common.

    Attributes:
        task: of ``backbones.metadata.TASKS``.
        settings: what the model is; it travels with the weights.
        normalize: pixels to network input.
        precision: of convolutions and matrix products.
    """

    task: str
    settings: Any
    normalize: Any
    precision: str = "fp32"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        classes: tuple[str, ...] = self.settings.classes
        return classes

    @torch.inference_mode()
    def on_arrays(self, find: Callable[[Tensor, Tensor], Found], images: Picture, sizes: Any) -> Found:
        """What ``find`` gives in evaluation mode for arrays: [B, H, W, 3] uint8 and sizes [B, 2]."""
        training = self.training
        self.eval()
        device = self.normalize.mean.device
        batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        with autocast(device, self.precision):
            found = find(batch, torch.from_numpy(sizes).to(device))
        self.train(training)
        return found


class Detector(PictureModel, FasterRCNN):
    """``FasterRCNN`` with the methods that files and pictures need."""

    task = "detection"
    settings: DetectorSettings

    def predict(
        self, images: Any, batch_size: int = 8, threshold: float | None = None
    ) -> Detections | list[Detections]:
        """Detect in pictures.

        Args:
            images: a path, the bytes of a file, a Pillow image, a uint8 array [H, W, 3] or a uint8 tensor [3, H, W],
                of any size; or a sequence of these.
            batch_size: at most so many at once.
            threshold: the least score, 0 for all that the network puts out; by default each class's own, if the model
                stores them, or 0.5.

        Returns:
            One result for one picture, a list for a sequence: tensors on the CPU, in the picture's pixels.

        Raises:
            InputError: something is no picture, and the message names it; or the threshold is no score.
        """
        return predict_in_order(self.predict_each, images, self.settings, batch_size, threshold, to_tensors)

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, Detections]]:
        """All that the network puts out, of whatever score, for metrics and comparisons: over a stream, as numpy.

        Args:
            images: anything that ``read_image`` takes.
            batch_size: at most so many at once.

        Yields:
            (place in the stream, detections), in the order in which batches fill.
        """
        return predict_pictures(self.detect_arrays, images, self.settings.input, batch_size)

    def detect_arrays(self, images: Picture, sizes: Any) -> FoundArrays:
        """``detect`` for numpy: [B, H, W, 3] uint8 and sizes [B, 2] -> boxes, scores, labels."""
        return to_arrays(self.on_arrays(self.detect, images, sizes), self.settings)


def to_arrays(found: DetectionBatch, settings: DetectorSettings) -> FoundArrays:
    """The same as numpy arrays on the CPU."""
    masks = None if found.masks is None else found.masks.float().cpu().numpy()
    boxes, scores, labels = (part.cpu().numpy() for part in (found.boxes, found.scores, found.labels))
    return FoundArrays.of(settings, boxes, scores, labels, masks)


def to_tensors(found: Detections) -> Detections:
    """Boxes, scores and labels as tensors; masks stay run lengths."""
    boxes, scores, labels = (torch.from_numpy(part) for part in (found.boxes, found.scores, found.labels))
    return replace(found, boxes=boxes, scores=scores, labels=labels)
