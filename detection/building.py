"""From settings to a detector, and from a file."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from backbones.batch_norm import freeze_batch_norm
from backbones.building import build_backbone
from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from backbones.normalization import Normalize
from backbones.resnet import CAFFE_POOL
from backbones.weights.file_content import FileContent
from backbones.weights.loading import load_weights, read_weights
from backbones.weights.model_file import write_model
from detection.anchors import AnchorGrid
from detection.detector import Detector
from detection.head_table import HEADS, check_fit
from detection.heads.contract import DetectionHead
from detection.masks.branch import MaskBranch
from detection.regions import BoxPredictor
from detection.rpn import RegionProposalNetwork
from detection.settings import DetectorSettings
from detection.weights import convert_detector, read_source

if TYPE_CHECKING:
    from detection.segmentation.segmenter import Segmenter

logger = logging.getLogger("shortcut")


def build_detector(settings: DetectorSettings, weights: str | Path | FileContent | None = None) -> Detector:
    """A detector with a fresh head.

    Args:
        settings: from ``default_settings``, or a file's.
        weights: pretrained weights for the backbone: what ``read_weights`` takes; their input convention replaces
            that of the settings. None leaves the backbone freshly initialized.

    Raises:
        InputError: unknown names, or weights that do not fit.
    """
    backbone = build_backbone(settings.backbone, num_classes=0)
    pretrained = None
    if weights is not None:
        pretrained = load_weights(backbone, read_weights(weights))
        settings = replace(settings, convention=replace(pretrained.convention, size=None, resize=None))
    head = build_head(backbone, settings)
    if pretrained is not None:
        head.take_over(pretrained.tensors)
    if settings.frozen_norm:
        freeze_batch_norm(head)
    anchors = AnchorGrid(settings.anchors, head.strides)
    rpn = RegionProposalNetwork(anchors, head.channels, settings.rpn_convs, settings.rpn_sampling, settings.rpn_beta)
    classes = len(settings.classes)
    predictor = BoxPredictor(head.vector * (2 if settings.context else 1), classes)
    masks = MaskBranch(head.map_channels, classes, settings.masks) if settings.masks else None
    detector = Detector(settings, Normalize(settings.convention), head, rpn, predictor, masks)
    return detector.to(memory_format=torch.channels_last)


def build_head(backbone: Backbone, settings: DetectorSettings) -> DetectionHead:
    """The head that the settings name, around a backbone.

    Raises:
        InputError: head and backbone do not go together.
    """
    check_fit(settings.head, settings.backbone)
    module, _, name = HEADS[settings.head].maker.partition(":")
    head: DetectionHead = getattr(import_module(module), name)(backbone, settings)
    return head


def save_model(model: Detector | Segmenter, path: Path, **metadata: Any) -> None:
    """Write weights and settings as one safetensors file.

    Args:
        model: any detector or segmenter.
        path: ``.safetensors``.
        **metadata: plain values that travel along (recipe, metrics).
    """
    write_model(path, model.state_dict(), describe(model).with_more(**metadata))


save_detector = save_model


def describe(model: Detector | Segmenter) -> ModelMetadata:
    """What a file says of a detector or segmenter."""
    return ModelMetadata(task=model.task, architecture=model.settings.to_dict(), classes=model.classes)


def load_detector(source: str | Path, device: str = "cpu") -> Detector:
    """A trained detector, ready to predict.

    Args:
        source: a run folder, a ``.safetensors`` file or a run's ``last.pt``; or another project's detector, as a file
            or by its published name: ``torchvision://NAME``, ``detectron2://NAME``.
        device: where it shall run.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    return detector_of(read_source(source)).to(device).eval()


def detector_of(content: FileContent) -> Detector:
    """The detector that a file holds; errors as for ``load_detector``."""
    metadata = content.metadata
    if metadata is None:
        foreign = convert_detector(content)
        return assemble(foreign.settings, foreign.tensors, foreign.origin).eval()
    if metadata.task != "detection":
        raise InputError(
            f"{content.origin}: holds {metadata.called}, not a detector; "
            f"detection/train.py --weights {content.origin} makes one"
        )
    return assemble(DetectorSettings.of(metadata), content.tensors, content.origin).eval()


def assemble(settings: DetectorSettings, tensors: dict[str, Tensor], origin: str) -> Detector:
    """A detector with given weights, each of which must find its place.

    Args:
        settings: of the detector.
        tensors: by parameter name.
        origin: where they come from, for messages.

    Raises:
        InputError: tensors are missing, left over, or of another shape.
    """
    detector = build_detector(settings)
    load_exactly(detector, tensors, origin)
    return detector


def load_exactly(model: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Give a model its weights, in place; each must find its place.

    Args:
        model: a detector or segmenter.
        tensors, origin: as ``assemble`` takes them.

    Raises:
        InputError: tensors are missing, left over, or of another shape.
    """
    kind = type(model).__name__.lower()
    wanted, given = _weights(model.state_dict()), _weights(tensors)
    missing, surplus = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or surplus:
        raise InputError(
            f"{origin}: does not fit this version's {kind}s: {len(missing)} tensors missing, "
            f"{len(surplus)} left over ({', '.join([*missing, *surplus][:3])})"
        )
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)} in the file, {list(wanted[name].shape)} in the {kind}"
            raise InputError(f"{origin}: {name} has another shape: {shapes}")
    model.load_state_dict(tensors, strict=False)
    logger.info("weights: %d of %d tensors from %s", len(given), len(wanted), origin)


def _weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that must agree.

    Neither the batch counters, which frozen norms lack, nor what follows from the settings, nor the grid of the
    pooling, which loading sets.
    """
    own = ("num_batches_tracked", "normalize.mean", "normalize.inverse_std", CAFFE_POOL)
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(own)}
