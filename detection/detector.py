"""A detector for people: pictures of any size in, detections in their own pixels out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from backbones.images import Picture
from backbones.running.precision import autocast
from detection.detections import Detections
from detection.faster_rcnn import FasterRCNN
from detection.framing import FoundArrays, PictureDetector
from detection.scoring import DetectionBatch
from detection.settings import DetectorSettings

_Found = TypeVar("_Found")


class TrainedModel(nn.Module):
    """What trained detectors and segmenters share: their settings say what they are, and arrays go through them.

    Attributes:
        settings: they travel with the weights.
        normalize: pixels to the network's input.
        precision: of convolutions and matrix products.
    """

    settings: Any
    normalize: Any
    precision: str = "fp32"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        classes: tuple[str, ...] = self.settings.classes
        return classes

    @torch.inference_mode()
    def on_arrays(self, find: Callable[[Tensor, Tensor], _Found], images: Picture, sizes: Any) -> _Found:
        """What ``find`` gives in evaluation mode for arrays: [B, H, W, 3] uint8 and sizes [B, 2]."""
        training = self.training
        self.eval()
        device = self.normalize.mean.device
        batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        with autocast(device, self.precision):
            found = find(batch, torch.from_numpy(sizes).to(device))
        self.train(training)
        return found


class Detector(TrainedModel, FasterRCNN, PictureDetector):
    """``FasterRCNN`` with the methods that files and pictures need."""

    settings: DetectorSettings

    def detect_arrays(self, images: Picture, sizes: Any) -> FoundArrays:
        """``detect`` for numpy: [B, H, W, 3] uint8 and sizes [B, 2] -> boxes, scores, labels."""
        return to_arrays(self.on_arrays(self.detect, images, sizes), self.settings)

    def finished(self, result: Detections) -> Detections:
        """Boxes, scores and labels as tensors; masks stay run lengths."""
        boxes, scores, labels = (torch.from_numpy(part) for part in (result.boxes, result.scores, result.labels))
        return replace(result, boxes=boxes, scores=scores, labels=labels)


def to_arrays(found: DetectionBatch, settings: DetectorSettings) -> FoundArrays:
    """The same as numpy arrays on the CPU."""
    masks = None if found.masks is None else found.masks.float().cpu().numpy()
    boxes, scores, labels = (part.cpu().numpy() for part in (found.boxes, found.scores, found.labels))
    return FoundArrays.of(settings, boxes, scores, labels, masks)
