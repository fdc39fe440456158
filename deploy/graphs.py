"""The models as exported: raw pixels in the layout of pictures in, plain tensors out."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from backbones.batch_norm import fold_batch_norm
from backbones.classifier import Classifier
from backbones.errors import InputError
from backbones.resnet import ResNet
from deploy.operators import onnx_operators
from deploy.precision.half import HALF, cast_layers
from detection.detector import Detector
from detection.faster_rcnn import FasterRCNN
from detection.head_table import HEADS
from detection.operators import portable
from detection.segmentation.fcn import FCN
from detection.segmentation.segmenter import Segmenter
from detection.settings import DetectorSettings, ProposalSettings

MOST_SORTED = 3840
"""The K of TensorRT's TopK is at most so large; every exported detector keeps to it."""
_M = TypeVar("_M", bound=nn.Module)


class DetectorGraph(nn.Module):
    """[B, H, W, 3] uint8 and valid sizes [B, 2] int64 -> what ``outputs`` names.

    boxes [B, D, 4], scores [B, D], labels [B, D], exact [B], and with a mask branch masks [B, D, m, m].
    """

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.detector = detector
        self.outputs = ("boxes", "scores", "labels", "exact") + (("masks",) if detector.masks is not None else ())

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        found = self.detector.detect(pixels_first(images), sizes)
        return tuple(getattr(found, name) for name in self.outputs)


class ClassifierGraph(nn.Module):
    """[B, H, W, 3] uint8 -> logits [B, K], and of residual networks activation_map [B, h, w].

    The map (Zhou et al. 2016) says how much each position of the last stage speaks for the best class: it is the last
    feature map weighted by that class's row of the linear layer. Its mean over positions, and the bias, make the logit.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.outputs = outputs_of(classifier)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        network = self.classifier.network
        pixels = self.classifier.normalize(pixels_first(images))
        if not isinstance(network, ResNet):
            return (network(pixels).float(),)
        *_, last = network.features(pixels).values()
        logits = network.fc(last.mean((2, 3))).float()  # the average pooling, which torch 2.11 traces into a loop
        weight: Tensor = network.fc.weight  # type: ignore[assignment]
        own = weight[logits.argmax(1)].float()  # [B, C]
        return logits, (last.float() * own[:, :, None, None]).sum(1)


def outputs_of(classifier: Classifier) -> tuple[str, ...]:
    """VGG's linear layers see places, so its activation map has no such form."""
    return ("logits", "activation_map") if isinstance(classifier.network, ResNet) else ("logits",)


class SegmenterGraph(nn.Module):
    """[B, H, W, 3] uint8 and valid sizes [B, 2] int64 -> labels [B, H, W] uint8, and their probabilities as scores."""

    outputs = ("labels", "scores")

    def __init__(self, segmenter: FCN) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.segmenter.logits(pixels_first(images), sizes)
        labels = logits.argmax(1).float().to(torch.uint8)  # TensorRT makes uint8 of floats only
        return labels, logits.softmax(1).amax(1)


def pixels_first(images: Tensor) -> Tensor:
    """[B, H, W, 3] uint8 -> [B, 3, H, W] float. The cast comes first, since TensorRT transposes no uint8."""
    return images.float().permute(0, 3, 1, 2)


def capped(settings: DetectorSettings, proposals: int | None = None) -> DetectorSettings:
    """The settings of the exported detector: no selection of more than ``MOST_SORTED``.

    Args:
        settings: the trained detector's.
        proposals: regions that the second stage looks at; by default as many as in training's tests.

    Raises:
        InputError: ``proposals`` is out of its range.
    """
    if proposals is not None and not 1 <= proposals <= MOST_SORTED:
        raise InputError(f"--proposals {proposals}: takes 1 to {MOST_SORTED}")
    own, output = settings.test_proposals, settings.output
    limited = ProposalSettings(
        min(own.before_nms, MOST_SORTED), min(proposals or own.after_nms, MOST_SORTED), own.nms_threshold
    )
    return replace(
        settings, test_proposals=limited, output=replace(output, candidates=min(output.candidates, MOST_SORTED))
    )  # fmt: skip


def detector_graph(
    detector: Detector, flavour: str = "portable", precision: str = "fp32", proposals: int | None = None
) -> DetectorGraph:
    """A copy of a detector for export: normalization folded into convolutions, selections within ``MOST_SORTED``.

    Args:
        detector: the trained one.
        flavour: ``portable``: only operations that every engine has; ``ops``: NonMaxSuppression and RoiAlign.
        precision: of the layers.
        proposals: as ``capped`` takes it.

    Raises:
        InputError: it pools regions in a way that has no such form.
    """
    _check_pooling(detector.settings, flavour)
    ready = _ready(detector)
    ready.settings = capped(detector.settings, proposals)
    ready.operators = portable() if flavour == "portable" else onnx_operators(len(detector.classes))
    _cast(ready, precision)
    return DetectorGraph(ready).to(memory_format=torch.contiguous_format)


def classifier_graph(classifier: Classifier, precision: str = "fp32") -> ClassifierGraph:
    """A copy of a classifier for export: normalization folded into convolutions."""
    ready = _ready(classifier)
    _cast(ready, precision)
    return ClassifierGraph(ready).to(memory_format=torch.contiguous_format)


def segmenter_graph(segmenter: Segmenter, precision: str = "fp32") -> SegmenterGraph:
    """A copy of a segmenter for export: normalization folded into convolutions."""
    ready = _ready(segmenter)
    ready.auxiliary = None
    _cast(ready, precision)
    return SegmenterGraph(ready).to(memory_format=torch.contiguous_format)


def _check_pooling(settings: DetectorSettings, flavour: str) -> None:
    pool = settings.pool
    if flavour == "ops" and not HEADS[settings.head].pyramid:
        return  # of a single level, the operators know every form
    if pool.kind == "pool":
        raise InputError(
            "RoI pooling has no form that every engine has; train with --pool align, or export with --flavour ops"
        )
    if not pool.sampling_ratio:
        raise InputError(
            "RoIAlign with as many samples as a region has pixels has no form that every engine has; "
            "detection/convert.py --exportable takes a fixed number"
        )


def _ready(model: _M) -> _M:
    ready = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    fold_batch_norm(ready)
    return ready


def _cast(model: nn.Module, precision: str) -> None:
    """Quantised files begin as fp32."""
    if precision in HALF:
        cast_layers(model, HALF[precision])
