"""Explicit quantisation: eight bits for the inputs and the weights of convolutions and matrix products.

QuantizeLinear and DequantizeLinear around an input say that an engine may hold it in eight bits; weights stand in the
file in eight bits already, behind DequantizeLinear. The engine fuses both with the layer between. Two styles of int8:

``tensorrt``: everything symmetric (zero points are zero), which every engine reads. ``cpu``: activations unsigned with
a zero point, the form in which AVX-512 VNNI multiplies. Biases are fp32, and weights have a scale for each output
channel.

fp8 (E4M3) has the first style's form, with one scale for each tensor.

An own writer, since ONNX Runtime's, which gives the same answers from the same ranges
(``tests/benchmarks/quantisers.py``), writes no fp8 of this form and empties the model that it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploy.precision.calibration import Statistics, asymmetric_limits, symmetric_limit

QUANTISED = ("int8", "fp8")
STYLES = ("tensorrt", "cpu")
_FP8 = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
_LARGEST_FP8 = 448.0
_THROUGH = ("Add", "MaxPool", "AveragePool", "GlobalAveragePool")
"""Besides the layers, these read the quantised copy of a tensor, so that no second copy in fp32 need be kept."""


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product with weights.

    Attributes:
        name: of the node.
        inputs: the tensor it looks at.
        weights: the initializer.
        axis: of the weights' output channels.
    """

    name: str
    inputs: str
    weights: str
    axis: int


def find_layers(model: onnx.ModelProto) -> list[Layer]:
    """Every Conv, Gemm and MatMul whose second input is an initializer, in the order of the graph."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in initializers:
            continue
        if initializers[node.input[1]].data_type == TensorProto.FLOAT and len(initializers[node.input[1]].dims) > 1:
            layers.append(Layer(node.name, node.input[0], node.input[1], _channel_axis(node, initializers)))
    return layers


def quantise(
    model: onnx.ModelProto,
    statistics: Mapping[str, Statistics],
    without: Collection[str] = (),
    precision: str = "int8",
    style: str = "tensorrt",
    weights_of: Collection[str] = (),
) -> onnx.ModelProto:
    """A copy of a model with eight-bit weights, and Q/DQ pairs around the inputs of their layers.

    Args:
        model: in fp32.
        statistics: of the layers' inputs, from ``observe``.
        without: names of layers that multiply in fp32.
        precision: ``int8`` or ``fp8``.
        style: of int8.
        weights_of: those among them whose weights stand in the file in eight bits nevertheless.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    writer = _PairWriter(result.graph, precision, style)
    layers = find_layers(result)
    chosen = {layer.name: layer for layer in layers if layer.name not in without}
    inputs = dict.fromkeys(layer.inputs for layer in chosen.values())  # layers may share one
    quantised = {name: writer.activation(name, statistics[name]) for name in inputs}
    small = [layer for layer in layers if layer.name in chosen or layer.name in weights_of]
    stored = {layer.weights: writer.weights(layer) for layer in small}
    for node in result.graph.node:
        reads_activations = node.name in chosen or node.op_type in _THROUGH
        copies = stored | quantised if reads_activations else stored
        for place, name in enumerate(node.input):
            node.input[place] = copies.get(name, name)
    writer.insert()
    return result


class _PairWriter:
    """Writes each pair once, however many layers share a tensor."""

    def __init__(self, graph: onnx.GraphProto, precision: str, style: str) -> None:
        self.graph = graph
        self.fp8 = precision == "fp8"
        self.unsigned = style == "cpu" and not self.fp8
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.after: dict[str, list[onnx.NodeProto]] = {}
        self.first: list[onnx.NodeProto] = []
        self.written: dict[str, str] = {}

    def activation(self, name: str, statistics: Statistics) -> str:
        """The name of a tensor's quantised copy."""
        if self.unsigned:
            low, high = asymmetric_limits(statistics)
            scale = (high - low) / 255
            zero = numpy_helper.from_array(np.array(round(-low / scale), np.uint8))
        elif self.fp8:
            scale = max(abs(statistics.low), abs(statistics.high), 1e-8) / _LARGEST_FP8
            zero = numpy_helper.from_array(np.array(0, _FP8))
        else:
            scale = symmetric_limit(statistics) / 127
            zero = numpy_helper.from_array(np.array(0, np.int8))
        scale_tensor = numpy_helper.from_array(np.array(scale, np.float32), f"{name}/scale")
        zero.name = f"{name}/zero"
        self.graph.initializer.extend((scale_tensor, zero))
        stored, copy = f"{name}/quantised", f"{name}/dequantised"
        parameters = [scale_tensor.name, zero.name]
        self.after.setdefault(name, []).extend((
            helper.make_node("QuantizeLinear", [name, *parameters], [stored], f"{name}/Q"),
            helper.make_node("DequantizeLinear", [stored, *parameters], [copy], f"{name}/DQ"),
        ))  # fmt: skip
        return copy

    def weights(self, layer: Layer) -> str:
        """The name of a layer's weights behind DequantizeLinear; the file holds eight bits of each."""
        if layer.weights not in self.written:
            values = numpy_helper.to_array(self.initializers[layer.weights])
            others = tuple(axis for axis in range(values.ndim) if axis != layer.axis)
            largest = np.maximum(abs(values).max(None if self.fp8 else others, keepdims=True), 1e-8)
            scale = (largest / (_LARGEST_FP8 if self.fp8 else 127)).astype(np.float32)
            eight = (values / scale).astype(_FP8) if self.fp8 else np.rint(values / scale).astype(np.int8)
            scales = scale.reshape(() if self.fp8 else -1)
            zeros = np.zeros(
                scales.shape, eight.dtype
            )  # may be left out by the standard, but not for ONNX Runtime 1.22
            tensors = {"quantised": eight, "scale": scales, "zero": zeros}
            names = [f"{layer.weights}/{part}" for part in tensors]
            self.graph.initializer.extend(map(numpy_helper.from_array, tensors.values(), names))
            copy = f"{layer.weights}/dequantised"
            axis: dict[str, Any] = {} if self.fp8 else {"axis": layer.axis}
            self.first.append(helper.make_node("DequantizeLinear", names, [copy], f"{layer.weights}/DQ", **axis))
            self.written[layer.weights] = copy
        return self.written[layer.weights]

    def insert(self) -> None:
        """Put the pairs where they belong in the order of the graph, and drop what nobody reads."""
        ordered = list(self.first)
        for value in self.graph.input:
            ordered += self.after.pop(value.name, [])
        for node in self.graph.node:
            ordered.append(node)
            for name in node.output:
                ordered += self.after.pop(name, [])
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del self.graph.node[:]
        self.graph.node.extend(kept)
        read = {name for node in kept for name in node.input}
        tensors = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(tensors)


def _channel_axis(node: onnx.NodeProto, initializers: Mapping[str, onnx.TensorProto]) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
    return len(initializers[node.input[1]].dims) - 1
