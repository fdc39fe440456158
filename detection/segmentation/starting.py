"""A segmenter before its first step: fresh, on a pretrained backbone, or from another segmenter."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import nn

from backbones.freezing import freeze_stages
from backbones.running.precision import gradient_scaler
from backbones.running.training_state import TrainingState
from detection.segmentation.building import build_segmenter
from detection.segmentation.options import SegmentationOptions
from detection.segmentation.segmenter import Segmenter
from detection.segmentation.settings import SegmenterSettings
from detection.settings import InputSettings

logger = logging.getLogger("shortcut")


def prepare(
    options: SegmentationOptions, classes: tuple[str, ...], device: torch.device, initial: Segmenter | None = None
) -> TrainingState:
    """Model and optimizer before the first step.

    Args:
        options: resolved.
        classes: names in the order of the labels.
        device: where to train.
        initial: the segmenter to start from; None builds on the pretrained weights that the options name.

    Raises:
        InputError: unknown names, or weights that do not fit.
    """
    torch.manual_seed(options.seed)
    settings = make_settings(options, classes)
    if initial is not None:
        segmenter = start_from(initial, settings)
    else:
        weights = options.weights if options.weights is not None else f"torchvision://{options.backbone}"
        segmenter = build_segmenter(settings, None if weights == "none" else weights)
    freeze_stages(segmenter.backbone, options.freeze)
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


def start_from(given: Segmenter, settings: SegmenterSettings) -> Segmenter:
    """A new segmenter with another's backbone and head; in the last layer, classes of the same name keep their rows.

    Args:
        given: the other one.
        settings: of the new one, with the other's backbone and width; its pixel convention follows the other's.
    """
    theirs = given.settings
    segmenter = build_segmenter(replace(settings, convention=theirs.convention))
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
    logger.info("started from another segmenter; fresh classes: %s", ", ".join(fresh) or "none")
    return segmenter


def _copy(source: nn.Module, target: nn.Module) -> None:
    """All that both have; the batch counters of norms are not there where these are frozen."""
    target.load_state_dict(source.state_dict(), strict=False)
