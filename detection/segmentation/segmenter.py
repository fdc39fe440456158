"""A segmenter for people: pictures of any size in, the class of each of their pixels out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from backbones.images import Picture
from detection.detector import TrainedModel
from detection.segmentation.fcn import FCN
from detection.segmentation.maps import PictureSegmenter, SegmentationMap
from detection.segmentation.settings import SegmenterSettings


class Segmenter(TrainedModel, FCN, PictureSegmenter):
    """``FCN`` with the methods that files and pictures need."""

    settings: SegmenterSettings

    def segment_arrays(self, images: Picture, sizes: Any) -> SegmentationMap:
        """``segment`` for numpy: [B, H, W, 3] uint8 and sizes [B, 2] -> labels and scores [B, H, W]."""
        found = self.on_arrays(self.segment, images, sizes)
        return SegmentationMap(found.labels.cpu().numpy(), found.scores.cpu().numpy(), self.classes)

    def finished(self, result: SegmentationMap) -> SegmentationMap:
        """Labels and scores as tensors."""
        return replace(result, labels=torch.from_numpy(result.labels), scores=torch.from_numpy(result.scores))
