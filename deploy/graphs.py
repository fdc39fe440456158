"""The models as exported: raw pixels in the layout of pictures in, plain tensors out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from backbones.batch_norm import fold_batch_norm
from backbones.classifier import Classifier
from backbones.errors import InputError
from detection.detector import Detector
from detection.faster_rcnn import FasterRCNN
from detection.operators import portable


class DetectorGraph(nn.Module):
    """[B, H, W, 3] uint8 and valid sizes [B, 2] int64 -> what ``outputs`` names.

    boxes [B, D, 4], scores [B, D], labels [B, D], exact [B], and with a mask branch masks [B, D, m, m].
    """

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.detector = detector
        self.outputs = ("boxes", "scores", "labels", "exact") + (("masks",) if detector.masks is not None else ())

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        pixels = images.float().permute(0, 3, 1, 2)  # TensorRT transposes no uint8, so the cast comes first
        found = self.detector.detect(pixels, sizes)
        return tuple(getattr(found, name) for name in self.outputs)


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
    """A copy of a detector for export: normalization folded into convolutions, every operation portable.

    Raises:
        InputError: it pools regions in a way that has no portable form.
    """
    pool = detector.settings.pool
    if pool.kind == "pool":
        raise InputError("RoI pooling has no form that every engine has; train with --pool align")
    if not pool.sampling_ratio:
        raise InputError(
            "RoIAlign with as many samples as a region has pixels has no form that every engine has; "
            "detection/convert.py --exportable takes a fixed number"
        )
    ready = copy.deepcopy(detector).cpu().eval().requires_grad_(False)
    fold_batch_norm(ready)
    ready.operators = portable()
    return DetectorGraph(ready).to(memory_format=torch.contiguous_format)


def classifier_graph(classifier: Classifier) -> ClassifierGraph:
    """A copy of a classifier for export: normalization folded into convolutions."""
    ready = copy.deepcopy(classifier).cpu().eval().requires_grad_(False)
    fold_batch_norm(ready)
    return ClassifierGraph(ready).to(memory_format=torch.contiguous_format)
