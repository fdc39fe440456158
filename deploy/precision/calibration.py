"""What values tensors take on real pictures: the ranges that quantisation divides into steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

PICTURES = 32
"""Enough for ranges; more change them little."""
_KEPT = 4096
"""Of a tensor and picture, about so many values are kept; of smaller tensors all."""
_CLIPS = np.linspace(0.2, 1.0, 33)

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Statistics:
    """What one tensor was seen to hold.

    Attributes:
        low, high: its least and greatest value.
        samples: some of its values.
    """

    low: float
    high: float
    samples: NDArray[np.float32]

    def joined(self, other: Statistics) -> Statistics:
        samples = np.concatenate((self.samples, other.samples))
        return Statistics(min(self.low, other.low), max(self.high, other.high), samples)


def observe(model: onnx.ModelProto, tensors: Sequence[str], batches: Iterable[Feed]) -> dict[str, Statistics]:
    """Run a model on real input and watch tensors inside it.

    Only a sample of each tensor, and its extremes, leave the engine, so memory stays that of one forward pass.

    Args:
        model: in fp32.
        tensors: names of float tensors.
        batches: inputs by name.
    """
    tensors = list(dict.fromkeys(tensors))
    session = cpu_session(_watched(model, tensors))
    found: dict[str, Statistics] = {}
    for feed in batches:
        values = session.run([f"{name}/{part}" for name in tensors for part in _PARTS], dict(feed))
        for number, name in enumerate(tensors):
            low, high, samples = values[3 * number : 3 * number + 3]
            seen = Statistics(float(low), float(high), samples.astype(np.float32))
            found[name] = found[name].joined(seen) if name in found else seen
    return found


def symmetric_limit(statistics: Statistics, levels: int = 127) -> float:
    """The magnitude at which to clip, so that the mean squared error of ``levels`` steps on each side is least."""
    largest = max(abs(statistics.low), abs(statistics.high))
    low, _ = _best_clip(statistics.samples, (-largest, largest), 2 * levels)
    return max(-low, 1e-8)


def asymmetric_limits(statistics: Statistics, levels: int = 255) -> tuple[float, float]:
    """The interval at which to clip, which holds zero, so that the mean squared error of ``levels`` steps is least."""
    whole = (min(statistics.low, 0.0), max(statistics.high, 0.0))
    low, high = _best_clip(statistics.samples, whole, levels)
    return low, max(high, low + 1e-8)


def _best_clip(samples: NDArray[np.float32], whole: tuple[float, float], levels: int) -> tuple[float, float]:
    """The best share of an interval."""
    best, least = whole, np.inf
    for share in _CLIPS:
        low, high = whole[0] * share, whole[1] * share
        step = max((high - low) / levels, 1e-12)
        rounded = np.clip(np.rint((samples - low) / step), 0, levels) * step + low
        error = float(np.square(rounded - samples).mean())
        if error <= least:
            best, least = (low, high), error
    return best


_PARTS = ("low", "high", "samples")


def _watched(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """The model with three more outputs for each tensor."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph = watched.graph
    for name, values in (
        ("flat", [-1]), ("first", [0]), ("last", [2**62]), ("axis", [0]), ("one", [1]), ("two", [2]),
        ("kept", [2 * _KEPT]),
    ):  # fmt: skip
        graph.initializer.append(helper.make_tensor(f"watch/{name}", TensorProto.INT64, [1], values))
    for name in tensors:
        low, high, samples = (f"{name}/{part}" for part in _PARTS)
        graph.node.extend((
            helper.make_node("ReduceMin", [name], [low], keepdims=0),
            helper.make_node("ReduceMax", [name], [high], keepdims=0),
            helper.make_node("Reshape", [name, "watch/flat"], [f"{name}/flat"]),
            helper.make_node("Shape", [f"{name}/flat"], [f"{name}/size"]),
            helper.make_node("Div", [f"{name}/size", "watch/kept"], [f"{name}/half"]),
            helper.make_node("Mul", [f"{name}/half", "watch/two"], [f"{name}/even"]),
            helper.make_node("Add", [f"{name}/even", "watch/one"], [f"{name}/step"]),  # odd, across columns
            helper.make_node("Slice", [f"{name}/flat", "watch/first", "watch/last", "watch/axis", f"{name}/step"],
                             [samples]),
        ))  # fmt: skip
        graph.output.extend(
            helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in (low, high, samples)
        )
    return watched


def cpu_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A model as ONNX Runtime runs it on the processor, with warnings off."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
