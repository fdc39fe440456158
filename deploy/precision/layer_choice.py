"""Quantising as many layers as the gate allows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

import onnx

from deploy.precision.calibration import Feed, observe
from deploy.precision.quantization import find_layers, quantise
from deploy.precision.sensitivity import Sensitivity, numbers_to_leave, rank_layers

logger = logging.getLogger("shortcut")
_RANKED_ON = 4
"""Pictures by which layers are ranked: each layer takes a run over all of them."""
_Result = TypeVar("_Result")


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
        """The layers, the most sensitive first."""
        names = [layer.name for layer in self.layers]

        def only(name: str) -> Any:
            return self.without(other for other in names if other != name)

        return rank_layers(names, self.model, only, list(islice(self.feeds, _RANKED_ON)))
