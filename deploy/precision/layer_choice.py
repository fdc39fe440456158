"""Quantising as many layers as the gate allows: which bear eight bits, and which must not have them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from deploy.precision.calibration import Feed, cpu_session, observe
from deploy.precision.quantization import find_layers, quantise
from detection.metrics.voc import pairwise_iou

logger = logging.getLogger("shortcut")
_RANKED_ON = 4
"""Pictures by which layers are ranked: each layer takes a run over all of them."""
_LARGEST_SHARE = 0.5
"""If half of the layers stay in fp32 and the gate still fails, the fault is elsewhere."""
_Result = TypeVar("_Result")

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Sensitivity:
    """What one layer alone does to the outputs when it is quantised: 0 nothing, 1 all."""

    layer: str
    disturbance: float


@dataclass(frozen=True)
class LayerChoice:
    """What became of the layers.

    Attributes:
        layers: how many there are.
        left: names of those that multiply in fp32, the most sensitive first.
        weights_only: their weights stand in the file in eight bits nevertheless.
        pictures: how many calibrated.
        ranking: of all layers, if the gate failed at first.
    """

    layers: int
    left: tuple[str, ...]
    pictures: int
    ranking: tuple[Sensitivity, ...] = ()
    weights_only: bool = False


class Quantiser:
    """A model with the ranges of its layers' inputs, measured once.

    Args:
        model: in fp32.
        feeds: calibration inputs.
        precision: ``int8`` or ``fp8``.
        style: of int8.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Iterable[Feed], precision: str, style: str) -> None:
        self.model, self.precision, self.style = model, precision, style
        self.feeds = list(feeds)
        self.layers = find_layers(model)
        inputs = list(dict.fromkeys(layer.inputs for layer in self.layers))
        self.statistics = observe(model, inputs, self.feeds)
        logger.info("calibrated %d tensors of %d layers on %d pictures", len(inputs), len(self.layers), len(self.feeds))

    def without(self, names: Iterable[str], weights_only: bool = False) -> onnx.ModelProto:
        """All layers but these quantised; or of these the weights alone."""
        left = set(names)
        kept = left if weights_only else ()
        return quantise(self.model, self.statistics, left, self.precision, self.style, kept)

    def choose(
        self, judge: Callable[[onnx.ModelProto], _Result], passed: Callable[[_Result], bool]
    ) -> tuple[onnx.ModelProto, LayerChoice, _Result]:
        """Quantise every layer; while the gate fails, leave out the most sensitive: 1, 2, 4, ... up to half of them.

        What is sensitive is mostly a layer's input. So the weights of those left out, which may be most of the file,
        are tried in eight bits in the end.

        Args:
            judge: compares a model with the trained one.
            passed: whether that is good enough.

        Returns:
            The last model tried, what it leaves out, and how it was judged.
        """
        candidate = self.without(())
        result = judge(candidate)
        if passed(result):
            return candidate, LayerChoice(len(self.layers), (), len(self.feeds)), result
        logger.info("too far from the model with all layers quantised; ranking the %d layers", len(self.layers))
        ranking = self.rank()
        left: tuple[str, ...] = ()
        for count in numbers_to_leave(len(self.layers)):
            left = tuple(each.layer for each in ranking[:count])
            candidate = self.without(left)
            result = judge(candidate)
            logger.info("%d layers left in fp32: %s", count, "enough" if passed(result) else "not enough")
            if passed(result):
                break
        choice = LayerChoice(len(self.layers), left, len(self.feeds), tuple(ranking))
        if not passed(result):
            return candidate, choice, result
        smaller = self.without(left, weights_only=True)
        again = judge(smaller)
        logger.info("their weights in eight bits: %s", "enough" if passed(again) else "not enough")
        if passed(again):
            return smaller, replace(choice, weights_only=True), again
        return candidate, choice, judge(candidate)  # once more, since the last model judged is the one that is kept

    def rank(self) -> list[Sensitivity]:
        """Quantise each layer alone and compare the outputs; the most sensitive layer comes first."""
        names, feeds = [layer.name for layer in self.layers], self.feeds[:_RANKED_ON]
        wanted = _outputs(self.model, feeds)
        found = []
        for name in names:
            outputs = _outputs(self.without(other for other in names if other != name), feeds)
            apart = [disturbance(a, b) for a, b in zip(wanted, outputs, strict=True)]
            found.append(Sensitivity(name, float(np.mean(apart))))
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
    session = cpu_session(model)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, dict(feed)), strict=True)) for feed in feeds]
