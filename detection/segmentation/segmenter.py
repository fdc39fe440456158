"""A segmenter for people: pictures of any size in, the class of each of their pixels out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from backbones.images import Picture
from backbones.running.precision import autocast
from detection.segmentation.fcn import FCN
from detection.segmentation.maps import PictureSegmenter, SegmentationMap


class Segmenter(FCN, PictureSegmenter):
    """``FCN`` with the methods that files and pictures need."""

    precision: str = "fp32"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        return self.settings.classes

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
        return SegmentationMap(found.labels.cpu().numpy(), found.scores.cpu().numpy(), self.classes)

    def finished(self, result: SegmentationMap) -> SegmentationMap:
        """Labels and scores as tensors."""
        return replace(result, labels=torch.from_numpy(result.labels), scores=torch.from_numpy(result.scores))
