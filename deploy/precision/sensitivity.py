"""Which layers bear eight bits, and which must not have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from deploy.precision.calibration import Feed
from detection.metrics.voc import pairwise_iou

_LARGEST_SHARE = 0.5
"""If half of the layers stay in fp32 and the gate still fails, the fault is elsewhere."""

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Sensitivity:
    """What one layer alone does to the outputs when it is quantised: 0 nothing, 1 all."""

    layer: str
    disturbance: float


def rank_layers(
    names: Sequence[str],
    reference: onnx.ModelProto,
    only: Callable[[str], onnx.ModelProto],
    feeds: Sequence[Feed],
    advance: Callable[[], None] = lambda: None,
) -> list[Sensitivity]:
    """Quantise each layer alone and compare the outputs; the most sensitive layer comes first.

    Args:
        names: of the layers.
        reference: the model in fp32.
        only: the model with that layer quantised.
        feeds: a few inputs by name.
        advance: called after each layer.
    """
    wanted = _outputs(reference, feeds)
    found = []
    for name in names:
        outputs = _outputs(only(name), feeds)
        apart = [disturbance(a, b) for a, b in zip(wanted, outputs, strict=True)]
        found.append(Sensitivity(name, float(np.mean(apart))))
        advance()
    return sorted(found, key=lambda each: -each.disturbance)


def numbers_to_leave(layers: int) -> list[int]:
    """How many of the most sensitive layers to leave in fp32, try by try: 1, 2, 4, 8, ... up to half of them."""
    most = int(layers * _LARGEST_SHARE)
    doubled = [2**power for power in range(16) if 2**power < most]
    return [*doubled, most] if most else []


def disturbance(wanted: Outputs, found: Outputs) -> float:
    """How far one batch's outputs moved, in 0..1 (logits: in units of their spread)."""
    if "logits" in wanted:
        spread = float(np.linalg.norm(wanted["logits"] - wanted["logits"].mean(1, keepdims=True)))
        return float(np.linalg.norm(wanted["logits"] - found["logits"])) / max(spread, 1e-12)
    if "boxes" in wanted:
        return _detections_moved(wanted, found)
    return float((wanted["labels"] != found["labels"]).mean())


def _detections_moved(wanted: Outputs, found: Outputs) -> float:
    """The mean, weighted by score, of what each detection lost: score and overlap of its best counterpart."""
    lost, weight = 0.0, 0.0
    for image in range(len(wanted["scores"])):
        real, other = wanted["scores"][image] > 0, found["scores"][image] > 0
        boxes = wanted["boxes"][image, real].astype(np.float64)
        scores = wanted["scores"][image, real]
        weight += float(scores.sum())
        if not other.any():
            lost += float(scores.sum())
            continue
        overlaps = pairwise_iou(boxes, found["boxes"][image, other].astype(np.float64))
        same = wanted["labels"][image, real][:, None] == found["labels"][image, other]
        apart = abs(scores[:, None] - found["scores"][image, other])
        kept = np.where(same, np.clip(overlaps - apart, 0, 1), 0).max(1)
        lost += float((scores * (1 - kept)).sum())
    return lost / weight if weight else 0.0


def _outputs(model: onnx.ModelProto, feeds: Sequence[Feed]) -> list[Outputs]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, dict(feed)), strict=True)) for feed in feeds]
