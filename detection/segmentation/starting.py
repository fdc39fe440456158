"""A segmenter before its first step: fresh, on a pretrained backbone, or from another segmenter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from backbones.freezing import freeze_stages
from backbones.running.precision import gradient_scaler
from backbones.running.training_state import TrainingState, state_metadata
from backbones.running.weight_average import WeightAverage
from backbones.weights.published import published_name
from detection.segmentation.building import build_segmenter, describe
from detection.segmentation.options import SegmentationOptions
from detection.segmentation.segmenter import Segmenter
from detection.segmentation.settings import SegmenterSettings
from detection.settings import InputSettings
from detection.training.initializing import copy_weights
from detection.training.stepping import make_sgd


def prepare(
    options: SegmentationOptions,
    classes: tuple[str, ...],
    device: torch.device,
    initial: Segmenter | None = None,
    saved: dict[str, Any] | None = None,
) -> TrainingState:
    """Model and optimizer before the first step, or where a run was interrupted.

    Args:
        options: resolved.
        classes: names in the order of the labels.
        device: where to train.
        initial: the segmenter to start from, if ``options`` name one.
        saved: the state of the interrupted run, which holds everything: no other weights are read.

    Raises:
        InputError: unknown names, or weights that do not fit.
    """
    torch.manual_seed(options.seed)
    if saved is not None:
        segmenter = build_segmenter(SegmenterSettings.from_dict(state_metadata(saved, options.resume).architecture))
    elif initial is not None:
        settings = replace(make_settings(options, classes), convention=initial.settings.convention)
        segmenter = build_segmenter(settings)
        copy_weights(initial, segmenter, str(options.init_from))
    else:
        weights = options.weights if options.weights is not None else published_name(str(options.backbone))
        segmenter = build_segmenter(make_settings(options, classes), None if weights == "none" else weights)
    freeze_stages(segmenter.backbone, options.freeze)
    segmenter.precision = options.precision
    segmenter = segmenter.to(device).train()
    state = TrainingState(
        segmenter,
        make_sgd(segmenter, options.weight_decay),
        gradient_scaler(device, options.precision),
        average=WeightAverage(segmenter, options.ema) if options.ema else None,
        about=describe(segmenter),
    )
    if saved is not None:
        state.restore(saved, device)
    return state


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
