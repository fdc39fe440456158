"""Explicit quantisation: QuantizeLinear and DequantizeLinear around the inputs of convolutions and matrix products.

The pairs say which values an engine may hold in eight bits; it fuses them with the layer between. Two styles of int8:

``tensorrt``: everything symmetric (zero points are zero), weights in fp32 behind their own pair, biases in fp32. Every
engine reads it. ``cpu``: activations unsigned with a zero point, weights stored as int8, which is the form in which
AVX-512 VNNI multiplies.

fp8 (E4M3) has the first style's form, with one scale for each tensor.

An own writer, since ONNX Runtime's quantiser cannot take measured ranges back after layers were left out, and puts
pairs behind layers, too, where a ReLU halves what eight signed bits hold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from deploy.precision.calibration import Statistics, asymmetric_limits, symmetric_limit

QUANTISED = ("int8", "fp8")
STYLES = ("tensorrt", "cpu")
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
) -> onnx.ModelProto:
    """A copy of a model with Q/DQ pairs.

    Args:
        model: in fp32.
        statistics: of the layers' inputs, from ``observe``.
        without: names of layers that stay in fp32.
        precision: ``int8`` or ``fp8``.
        style: of int8.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    writer = _PairWriter(result.graph, precision, style)
    chosen = {layer.name: layer for layer in find_layers(result) if layer.name not in without}
    inputs = dict.fromkeys(layer.inputs for layer in chosen.values())  # layers may share one
    quantised = {name: writer.activation(name, statistics[name]) for name in inputs}
    for node in list(result.graph.node):
        if node.name in chosen:
            layer = chosen[node.name]
            node.input[0] = quantised[layer.inputs]
            node.input[1] = writer.weights(layer)
        elif node.op_type in _THROUGH:
            for place, name in enumerate(node.input):
                node.input[place] = quantised.get(name, name)
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
        self.written: dict[tuple[str, int], str] = {}

    def activation(self, name: str, statistics: Statistics) -> str:
        """The name of a tensor's quantised copy."""
        if self.unsigned:
            low, high = asymmetric_limits(statistics)
            scale = (high - low) / 255
            zero = numpy_helper.from_array(np.array(round(-low / scale), np.uint8))
        elif self.fp8:
            scale = max(abs(statistics.low), abs(statistics.high), 1e-8) / _LARGEST_FP8
            zero = _fp8_zeros([])
        else:
            scale = symmetric_limit(statistics) / 127
            zero = numpy_helper.from_array(np.array(0, np.int8))
        nodes = self._pair(name, np.array(scale, np.float32), zero, None)
        self.after.setdefault(name, []).extend(nodes)
        return str(nodes[-1].output[0])

    def weights(self, layer: Layer) -> str:
        """The name of a layer's quantised weights."""
        key = (layer.weights, layer.axis)
        if key not in self.written:
            values = numpy_helper.to_array(self.initializers[layer.weights])
            others = tuple(axis for axis in range(values.ndim) if axis != layer.axis)
            if self.fp8:
                scale: NDArray[Any] = np.array(max(abs(values).max(), 1e-8) / _LARGEST_FP8, np.float32)
                nodes = self._pair(layer.weights, scale, _fp8_zeros([]), None)
            else:
                scale = (np.maximum(abs(values).max(others), 1e-8) / 127).astype(np.float32)
                zero = numpy_helper.from_array(np.zeros(len(scale), np.int8))
                nodes = self._pair(layer.weights, scale, zero, layer.axis)
                if self.unsigned:
                    nodes = [self._stored(values, scale, layer.axis, nodes)]
            self.first.extend(nodes)
            self.written[key] = str(nodes[-1].output[0])
        return self.written[key]

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

    def _pair(self, name: str, scale: NDArray[Any], zero: onnx.TensorProto, axis: int | None) -> list[onnx.NodeProto]:
        scale_tensor = numpy_helper.from_array(scale, f"{name}/scale")
        zero.name = f"{name}/zero"
        self.graph.initializer.extend((scale_tensor, zero))
        extra: dict[str, Any] = {} if axis is None else {"axis": axis}
        stored, copy = f"{name}/quantised", f"{name}/dequantised"
        return [
            helper.make_node("QuantizeLinear", [name, scale_tensor.name, zero.name], [stored], f"{name}/Q", **extra),
            helper.make_node("DequantizeLinear", [stored, scale_tensor.name, zero.name], [copy], f"{name}/DQ", **extra),
        ]

    def _stored(
        self, values: NDArray[Any], scale: NDArray[Any], axis: int, nodes: list[onnx.NodeProto]
    ) -> onnx.NodeProto:
        """Weights quantised here and now, in place of the first node of their pair."""
        shape = [-1 if number == axis else 1 for number in range(values.ndim)]
        eight = np.clip(np.rint(values / scale.reshape(shape)), -127, 127).astype(np.int8)
        self.graph.initializer.append(numpy_helper.from_array(eight, nodes[0].output[0]))
        return nodes[1]


def _channel_axis(node: onnx.NodeProto, initializers: Mapping[str, onnx.TensorProto]) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else 1
    return len(initializers[node.input[1]].dims) - 1


def _fp8_zeros(dims: list[int]) -> onnx.TensorProto:
    return helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, dims, [0.0])
