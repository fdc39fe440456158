"""A segmenter before its first step: fresh, on a pretrained backbone, or from another segmenter."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from backbones.errors import InputError
from backbones.plugins import first_stages
from backbones.running.precision import gradient_scaler
from backbones.running.training_state import TrainingState
from detection.segmentation.building import build_segmenter, load_segmenter
from detection.segmentation.options import SegmentationOptions
from detection.segmentation.segmenter import Segmenter
from detection.segmentation.settings import SegmenterSettings
from detection.settings import InputSettings

logger = logging.getLogger("shortcut")


def prepare(options: SegmentationOptions, classes: tuple[str, ...], device: torch.device) -> TrainingState:
    """Model and optimizer before the first step.

    Raises:
        InputError: unknown names, or weights that do not fit.
    """
    torch.manual_seed(options.seed)
    settings = make_settings(options, classes)
    if options.init_from is not None:
        segmenter = start_from(load_segmenter(options.init_from), settings, options.init_from)
    else:
        weights = options.weights if options.weights is not None else f"torchvision://{options.backbone}"
        segmenter = build_segmenter(settings, None if weights == "none" else weights)
    for stage in first_stages(segmenter.backbone, options.freeze).values():
        stage.requires_grad_(False)
    segmenter.precision = options.precision
    segmenter = segmenter.to(device).train()
    learned = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.0, momentum=0.9, weight_decay=options.weight_decay, fused=True)
    return TrainingState(segmenter, optimizer, gradient_scaler(device, options.precision))


def make_settings(options: SegmentationOptions, classes: tuple[str, ...]) -> SegmenterSettings:
    """The segmenter that resolved options describe."""
    assert options.backbone and options.output_stride and options.shorter and options.longer
    return SegmenterSettings(
        options.backbone,
        classes,
        output_stride=options.output_stride,
        channels=options.channels or 0,
        auxiliary=bool(options.auxiliary),
        input=InputSettings(options.shorter, options.longer),
        frozen_norm=options.batch_norm == "frozen",
    )


def start_from(given: Segmenter, settings: SegmenterSettings, origin: str | Path) -> Segmenter:
    """A new segmenter with another's backbone and head; in the last layer, classes of the same name keep their rows.

    Args:
        given: the other one.
        settings: of the new one; its pixel convention and the width of its head follow the other's.
        origin: where the other comes from, for messages.

    Raises:
        InputError: it has another backbone.
    """
    theirs = given.settings
    if theirs.backbone != settings.backbone:
        raise InputError(f"{origin}: its backbone is {theirs.backbone}; give --backbone {theirs.backbone}")
    width = given.head.conv.out_channels
    segmenter = build_segmenter(replace(settings, convention=theirs.convention, channels=width))
    _copy(given.backbone, segmenter.backbone)
    for part in ("conv", "bn"):
        _copy(given.head.get_submodule(part), segmenter.head.get_submodule(part))
    known = {name: label for label, name in enumerate(theirs.classes)}
    kept = [label for label, name in enumerate(settings.classes) if name in known]
    rows = [known[settings.classes[label]] for label in kept]
    with torch.no_grad():
        for own, other in zip(segmenter.head.classes.parameters(), given.head.classes.parameters(), strict=True):
            own[kept] = other[rows]
    fresh = [name for name in settings.classes if name not in known]
    logger.info("started from %s; fresh classes: %s", origin, ", ".join(fresh) or "none")
    return segmenter


def _copy(source: nn.Module, target: nn.Module) -> None:
    """All that both have; the batch counters of norms are not there where these are frozen."""
    target.load_state_dict(source.state_dict(), strict=False)
