"""ONNX graphs of a few nodes, with the inputs and metadata of exported models; made without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from backbones.metadata import FORMAT, KEY
from backbones.resize_fingerprint import resize_fingerprint

_ANY: dict[str, Any] = {
    "format": FORMAT, "resize": resize_fingerprint(), "precision": "fp32", "flavour": "portable", "outputs": [],
}  # fmt: skip
CLASSIFICATION: dict[str, Any] = {
    **_ANY, "task": "classification", "classes": ["a", "b"], "architecture": {"backbone": "none"},
    "input": {"mean": [0, 0, 0], "std": [1, 1, 1], "channels": "RGB", "size": [32, 32], "resize": None},
}  # fmt: skip
DETECTION: dict[str, Any] = {
    **_ANY, "task": "detection", "classes": ["a"],
    "architecture": {"input": {"shorter": 800, "longer": 1333, "multiple": 32}},
}  # fmt: skip


def write_detector_like(path: Path, shift: float = 0.0) -> Path:
    """Inputs and types of a detector: a weighted mean colour, twice the sizes, and whether they are positive."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.1, (4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights", "bias"], ["features"], "conv"),
        helper.make_node("ReduceMean", ["features", "axes"], ["boxes"], "mean", keepdims=0),
        helper.make_node("Mul", ["sizes", "two"], ["labels"], "double"),
        helper.make_node("Gather", ["sizes", "first"], ["height"], "height", axis=1),
        helper.make_node("Greater", ["height", "nought"], ["exact"], "positive"),
    ]
    constants = {
        "weights": weights, "bias": np.full(4, shift, np.float32), "axes": np.array([2, 3]), "two": np.array(2),
        "first": np.array(0), "nought": np.array(0),
    }  # fmt: skip
    inputs = {"images": (TensorProto.UINT8, ["n", "h", "w", 3]), "sizes": (TensorProto.INT64, ["n", 2])}
    outputs = {
        "boxes": (TensorProto.FLOAT, ["n", 4]), "labels": (TensorProto.INT64, ["n", 2]),
        "exact": (TensorProto.BOOL, ["n"]),
    }  # fmt: skip
    return write_graph(path, nodes, constants, inputs, outputs, DETECTION)


def write_classifier_like(path: Path, extra: onnx.NodeProto | None = None) -> Path:
    """The mean colour as logits; ``extra`` turns ``mean`` into ``logits`` in place of nothing at all."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], "reduce", keepdims=0),
        extra or helper.make_node("Identity", ["mean"], ["logits"], "identity"),
    ]
    inputs = {"images": (TensorProto.UINT8, ["n", "h", "w", 3])}
    outputs = {"logits": (TensorProto.FLOAT, None)}
    return write_graph(path, nodes, {"axes": np.array([1, 2])}, inputs, outputs, CLASSIFICATION)


def write_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: dict[str, tuple[int, Any]],
    outputs: dict[str, tuple[int, Any]],
    metadata: dict[str, Any] | None,
) -> Path:
    """A file of opset 20, with metadata under our key."""
    values = [[helper.make_tensor_value_info(name, *kind) for name, kind in side.items()] for side in (inputs, outputs)]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", *values, weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ours", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    if metadata is not None:
        helper.set_model_props(model, {"other": "ß" * 300, KEY: json.dumps(metadata)})
    onnx.save(model, str(path))
    return path
