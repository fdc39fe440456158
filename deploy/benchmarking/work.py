"""Multiply-adds of a model: those of its learned layers, convolutions and matrix products with weights.

A quantised graph counts like the one that it was made from. Suppression and pooling are products too in some graphs,
and are not counted: they are how an engine works, not what the network is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from backbones.images import Size
from deploy.benchmarking.subjects import TORCH, Subject, make_images

LEARNED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PASSING = ("DequantizeLinear", "QuantizeLinear", "Cast", "Transpose", "Reshape", "Identity")
Shape = tuple[int, ...]


def multiply_adds(subject: Subject, size: Size) -> float | None:
    """Of one image of a size, or None where neither graph nor module tells."""
    if subject.engine == TORCH:
        return _of_module(subject, size)
    file = Path(subject.path).with_suffix(".onnx")
    return of_graph(file, size) if file.is_file() else None


def of_graph(path: Path, size: Size) -> float | None:
    """Of an ONNX file, by its shapes for one image; None where they depend on what is in the image."""
    try:
        import onnx
    except ModuleNotFoundError:
        return None
    model = onnx.load(str(path))
    for value in model.graph.input:
        for axis, length in enumerate((1, *size)[: len(value.type.tensor_type.shape.dim)]):
            dimension = value.type.tensor_type.shape.dim[axis]
            if dimension.dim_param:
                dimension.dim_value = length
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = _shapes(inferred.graph)
    learned = _learned(model.graph)
    total = 0.0
    for node in model.graph.node:
        if node.op_type not in LEARNED or not (learned & set(node.input[:2])):
            continue
        work = _work(node, shapes)
        if work is None:
            return None
        total += work
    return total


def _work(node: Any, shapes: dict[str, Shape]) -> float | None:
    """Multiply-adds of a layer from the shapes of its operands and its output."""
    operands = [shapes.get(name) for name in (*node.input[:2], node.output[0])]
    first, second, output = operands
    if first is None or second is None or output is None or 0 in output:
        return None
    if node.op_type == "Conv":  # each output is a sum over the kernel and the channels of its group
        return float(np.prod(output)) * float(np.prod(second[1:]))
    if node.op_type == "ConvTranspose":  # each input is spread over the kernel and the channels of its group
        return float(np.prod(first)) * float(np.prod(second[1:]))
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return float(np.prod(output)) * first[0 if transposed else -1]


def _shapes(graph: Any) -> dict[str, Shape]:
    """Of all values whose every dimension is known."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dimensions = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(item.HasField("dim_value") for item in dimensions):
            shapes[value.name] = tuple(item.dim_value for item in dimensions)
    return shapes


def _learned(graph: Any) -> set[str]:
    """Names of weights, and of what they become on their way to a layer."""
    learned = {tensor.name for tensor in graph.initializer}
    learned |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    for node in graph.node:  # in topological order, as ONNX demands
        if node.op_type in PASSING and node.input[0] in learned:
            learned.add(node.output[0])
    return learned


def _of_module(subject: Subject, size: Size) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        subject.call(make_images(1, size, None))()
    return counter.get_total_flops() / 2
