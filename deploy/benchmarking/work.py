"""Multiply-adds of a model: those of its learned layers, convolutions and matrix products with weights.

A quantised graph counts like the one that it was made from. Suppression and pooling are products too in some graphs,
and are not counted: they are how an engine works, not what the network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.images import Size, padded_size
from deploy.benchmarking.subjects import Subject, make_images
from deploy.models import TORCH

LEARNED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PASSING = ("DequantizeLinear", "QuantizeLinear", "Cast", "Transpose", "Reshape", "Identity")
Shape = tuple[int, ...]


def multiply_adds(subject: Subject, size: Size) -> float | None:
    """Of one image of a size, or None where neither graph nor module tells."""
    if subject.engine == TORCH:
        return _of_module(subject, size)
    path = Path(subject.path)
    exported = subject.model.metadata.exported
    engine = exported.engine if exported else None
    file = path.with_name(engine["onnx"]) if engine else path  # a plan names the file that it was built from
    multiple = 1 if subject.task == "classification" else subject.model.settings.input.multiple
    return of_graph(file, padded_size(size, multiple)) if file.is_file() else None


def of_graph(path: Path, size: Size) -> float | None:
    """Of an ONNX file, for one image; None where ONNX Runtime would have to run it to tell, and cannot."""
    try:
        import onnx
    except ModuleNotFoundError:
        return None
    model = onnx.load(str(path))
    _fix_inputs(model.graph, size)
    learned = _learned(model.graph)
    layers = [node for node in model.graph.node if node.op_type in LEARNED and learned & set(node.input[:2])]
    shapes = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    unknown = {name for node in layers for name in _operands(node)} - set(shapes)
    if unknown:
        shapes |= _shapes_in_a_run(model, sorted(unknown), size)
    works = [_work(node, shapes) for node in layers]
    return None if None in works else float(sum(filter(None, works)))


def _fix_inputs(graph: Any, size: Size) -> None:
    """One image of a size; what depends on it is forgotten."""
    for value in graph.input:
        for dimension, length in zip(value.type.tensor_type.shape.dim, (1, *size), strict=False):
            if dimension.dim_param:
                dimension.dim_value = length
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]


def _shapes_in_a_run(model: Any, names: Sequence[str], size: Size) -> dict[str, Shape]:
    """Of values whose shapes are computed in the graph itself."""
    from onnx import TensorProto, helper

    del model.graph.output[:]
    for name in names:
        shape = f"{name}/shape"
        model.graph.node.append(helper.make_node("Shape", [name], [shape]))
        model.graph.output.append(helper.make_tensor_value_info(shape, TensorProto.INT64, None))
    inputs = {"images": np.zeros((1, *size, 3), np.uint8), "sizes": np.array([size], np.int64)}
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        values = session.run(None, {value.name: inputs[value.name] for value in model.graph.input})
    except Exception:  # not installed, or it has no such operator in this precision: the work stays unknown
        return {}
    return {name: tuple(value.tolist()) for name, value in zip(names, values, strict=True)}


def _operands(node: Any) -> tuple[str, ...]:
    return (*node.input[:2], node.output[0])


def _work(node: Any, shapes: dict[str, Shape]) -> float | None:
    """Multiply-adds of a layer from the shapes of its operands and its output."""
    first, second, output = (shapes.get(name) for name in _operands(node))
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
