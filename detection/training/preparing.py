"""From options to a detector, its optimizer, and the module that is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from backbones.running.precision import gradient_scaler
from backbones.running.training_state import TrainingState
from detection.building import build_detector, freeze_stages
from detection.data.annotations import DetectionData
from detection.settings import (
    AnchorSettings,
    DetectorSettings,
    InputSettings,
    ProposalSettings,
    default_settings,
)
from detection.training.options import TrainingOptions


def make_settings(options: TrainingOptions, data: DetectionData) -> DetectorSettings:
    """The detector that resolved options describe."""
    assert options.head and options.test_shorter and options.longer and options.anchor_sizes
    sizes = options.anchor_sizes
    base = default_settings(options.backbone, data.annotations.classes, options.head)
    changes: dict[str, Any] = {
        "category_ids": data.annotations.category_ids,
        "input": InputSettings(options.test_shorter, options.longer),
        "anchors": AnchorSettings((sizes,) if options.head == "c4" else tuple((size,) for size in sizes)),
        "frozen_norm": options.batch_norm == "frozen",
        "train_proposals": ProposalSettings(
            min(base.train_proposals.before_nms, 2 * (options.train_proposals or 0)), options.train_proposals or 0
        ),
        "test_proposals": ProposalSettings(
            min(base.test_proposals.before_nms, 2 * (options.test_proposals or 0)), options.test_proposals or 0
        ),
        "roi_sampling": replace(base.roi_sampling, count=options.region_samples or 0),
    }
    if options.head == "fpn":
        changes |= {"channels": options.channels, "vector": options.vector}
    return replace(base, **changes)


def prepare(options: TrainingOptions, data: DetectionData, device: torch.device) -> TrainingState:
    """Model and optimizer before the first step."""
    torch.manual_seed(options.seed)
    weights = options.weights if options.weights is not None else f"torchvision://{options.backbone}"
    detector = build_detector(make_settings(options, data), None if weights == "none" else weights)
    freeze_stages(detector, options.freeze or 0)
    detector.precision = options.precision
    detector = detector.to(device).train()
    learned = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.0, momentum=0.9, weight_decay=options.weight_decay, fused=True)
    return TrainingState(detector, optimizer, gradient_scaler(device, options.precision))
