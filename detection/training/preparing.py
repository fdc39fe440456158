"""From options to a detector and its optimizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from backbones.running.precision import gradient_scaler
from backbones.running.training_state import TrainingState, state_metadata
from backbones.running.weight_average import WeightAverage
from detection.building import build_detector, describe, freeze_stages
from detection.data.annotations import DetectionData
from detection.detector import Detector
from detection.settings import AnchorSettings, DetectorSettings, InputSettings, ProposalSettings
from detection.training.initializing import copy_weights
from detection.training.options import TrainingOptions, design_of, flat_sizes
from detection.training.stepping import make_sgd


def make_settings(
    options: TrainingOptions, data: DetectionData, initial: DetectorSettings | None = None
) -> DetectorSettings:
    """The detector that resolved options describe.

    Args:
        options: resolved.
        data: names the classes.
        initial: that of the detector to start from.
    """
    assert options.backbone and options.head and options.test_shorter and options.longer and options.anchor_sizes
    assert options.train_proposals and options.test_proposals and options.region_samples
    design = design_of(options, initial)
    changes: dict[str, Any] = {
        "backbone": options.backbone,
        "classes": data.annotations.classes,
        "category_ids": data.annotations.category_ids,
        "input": InputSettings(options.test_shorter, options.longer),
        "pool": replace(design.pool, kind=options.pool),  # type: ignore[arg-type]
        "context": options.context,
        "frozen_norm": options.batch_norm == "frozen",
        "train_proposals": _kept(design.train_proposals, options.train_proposals),
        "test_proposals": _kept(design.test_proposals, options.test_proposals),
        "roi_sampling": replace(design.roi_sampling, count=options.region_samples),
    }
    if options.anchor_sizes != flat_sizes(design):
        levels = tuple((size,) for size in options.anchor_sizes) if options.head == "fpn" else (options.anchor_sizes,)
        changes["anchors"] = AnchorSettings(levels, design.anchors.ratios, design.anchors.rounded)
    given = {name: getattr(options, name) for name in ("channels", "vector", "dropout")}
    return replace(design, **changes, **{name: value for name, value in given.items() if value is not None})


def _kept(proposals: ProposalSettings, count: int) -> ProposalSettings:
    """So many proposals, out of as many times more boxes as before."""
    return replace(proposals, before_nms=proposals.before_nms * count // proposals.after_nms, after_nms=count)


def prepare(
    options: TrainingOptions,
    data: DetectionData,
    device: torch.device,
    initial: Detector | None = None,
    saved: dict[str, Any] | None = None,
) -> TrainingState:
    """Model and optimizer before the first step, or where a run was interrupted.

    Args:
        options: resolved.
        data: names the classes.
        device: where the model goes.
        initial: the detector to start from, if ``options`` name one.
        saved: the state of the interrupted run, which holds everything: no other weights are read.
    """
    assert options.weight_decay is not None
    torch.manual_seed(options.seed)
    if saved is not None:
        detector = build_detector(DetectorSettings.from_dict(state_metadata(saved, options.resume).architecture))
    elif initial is not None:
        detector = build_detector(make_settings(options, data, initial.settings))
        copy_weights(initial, detector, str(options.init_from))
    else:
        detector = build_detector(make_settings(options, data), None if options.weights == "none" else options.weights)
    freeze_stages(detector, options.freeze or 0)
    detector.precision = options.precision
    detector = detector.to(device).train()
    state = TrainingState(
        detector,
        make_sgd(detector, options.weight_decay),
        gradient_scaler(device, options.precision),
        average=WeightAverage(detector, options.ema) if options.ema else None,
        about=describe(detector),
    )
    if saved is not None:
        state.restore(saved, device)
    return state
