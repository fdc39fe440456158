"""From settings to a segmenter, and from a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from backbones.batch_norm import freeze_batch_norm
from backbones.building import build_backbone
from backbones.dilation import dilate
from backbones.errors import InputError
from backbones.normalization import Normalize
from backbones.weights.file_content import FileContent
from backbones.weights.loading import load_weights, read_weights
from backbones.weights.reading import read_source
from detection.building import describe as describe
from detection.building import load_exactly, save_model
from detection.segmentation.fcn import FCNHead
from detection.segmentation.segmenter import Segmenter
from detection.segmentation.settings import SegmenterSettings
from detection.segmentation.torchvision_fcn import convert_torchvision

save_segmenter = save_model


def build_segmenter(settings: SegmenterSettings, weights: str | Path | FileContent | None = None) -> Segmenter:
    """A segmenter with fresh heads.

    Args:
        settings: what it is.
        weights: pretrained weights for the backbone: what ``read_weights`` takes; their input convention replaces
            that of the settings. None leaves the backbone freshly initialized.

    Raises:
        InputError: unknown names, an output stride that the network cannot have, or weights that do not fit.
    """
    backbone = build_backbone(settings.backbone, num_classes=0)
    if weights is not None:
        convention = load_weights(backbone, read_weights(weights)).convention
        settings = replace(settings, convention=replace(convention, size=None, resize=None))
    dilate(backbone, settings.output_stride)
    if settings.frozen_norm:
        freeze_batch_norm(backbone)
    *_, before, last = backbone.out_channels.values()
    head, second = (
        FCNHead(width, settings.channels or max(1, width // 4), len(settings.classes), settings.dropout)
        for width in (last, before)
    )
    segmenter = Segmenter(
        settings, Normalize(settings.convention), backbone, head, second if settings.auxiliary else None
    )
    return segmenter.to(memory_format=torch.channels_last)


def load_segmenter(source: str | Path, device: str = "cpu") -> Segmenter:
    """A trained segmenter, ready to predict.

    Args:
        source: a run folder, a ``.safetensors`` file, a run's ``last.pt``, or torchvision's state dict of
            ``fcn_resnet50`` or ``fcn_resnet101`` (``.pth``, also ``.pth.xz``); its auxiliary head is left out.
        device: where it shall run.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    return segmenter_of(read_source(source)).to(device)


def segmenter_of(content: FileContent) -> Segmenter:
    """The segmenter that a file holds; errors as for ``load_segmenter``."""
    settings, tensors = _in_our_terms(content)
    segmenter = build_segmenter(settings)
    load_exactly(segmenter, tensors, content.origin)
    return segmenter.eval()


def _in_our_terms(content: FileContent) -> tuple[SegmenterSettings, dict[str, Tensor]]:
    metadata = content.metadata
    if metadata is None:
        return convert_torchvision(content.tensors, content.origin)
    if metadata.task != "segmentation":
        raise InputError(f"{content.origin}: holds {metadata.called}, not a segmenter; --head fcn trains one")
    return SegmenterSettings.of(metadata), content.tensors
