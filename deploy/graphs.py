"""The models as exported: raw pixels in the layout of pictures in, plain tensors out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from backbones.batch_norm import fold_batch_norm
from backbones.classifier import Classifier
from detection.detector import Detector
from detection.faster_rcnn import FasterRCNN
from detection.operators import portable

NMS_ITERATIONS = 20
"""Rounds of suppression in a portable graph. Photographs need fewer than ten; the output ``exact`` tells."""


class DetectorGraph(nn.Module):
    """[B, H, W, 3] uint8 and valid sizes [B, 2] int64 -> boxes [B, D, 4], scores [B, D], labels [B, D], exact [B]."""

    outputs = ("boxes", "scores", "labels", "exact")

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels = images.float().permute(0, 3, 1, 2)  # TensorRT transposes no uint8, so the cast comes first
        found = self.detector.detect(pixels, sizes)
        return found.boxes, found.scores, found.labels, found.exact


class ClassifierGraph(nn.Module):
    """[B, H, W, 3] uint8 -> logits [B, K]."""

    outputs = ("logits",)

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images.float().permute(0, 3, 1, 2))
        return logits


def detector_graph(detector: Detector) -> DetectorGraph:
    """A copy of a detector for export: normalization folded into convolutions, every operation portable."""
    ready = copy.deepcopy(detector).cpu().eval().requires_grad_(False)
    fold_batch_norm(ready)
    ready.operators = portable(NMS_ITERATIONS)
    return DetectorGraph(ready).to(memory_format=torch.contiguous_format)


def classifier_graph(classifier: Classifier) -> ClassifierGraph:
    """A copy of a classifier for export: normalization folded into convolutions."""
    ready = copy.deepcopy(classifier).cpu().eval().requires_grad_(False)
    fold_batch_norm(ready)
    return ClassifierGraph(ready).to(memory_format=torch.contiguous_format)
