"""Whether a graph may leave: known operators, free dimensions that stayed free, and no selection too large.

Lists of what is allowed, not of what is forbidden: an operator that nobody has tried in every engine shows up here
when it first occurs, not when a user builds an engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import numpy_helper

from backbones.errors import InputError
from deploy.graphs import MOST_SORTED

PORTABLE = frozenset((
    "Add", "And", "ArgMax", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "DequantizeLinear", "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather",
    "GatherElements", "GatherND", "Gemm", "GlobalAveragePool", "Greater", "GreaterOrEqual", "GridSample", "Identity",
    "Less", "LessOrEqual", "Log", "MatMul", "Max", "MaxPool", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pad",
    "QuantizeLinear", "Range", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape",
    "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "TopK", "Transpose",
    "Unsqueeze", "Where",
))  # fmt: skip
"""What ONNX Runtime, OpenVINO, TensorRT and TensorRT-RTX all have; no shape depends on values."""
ALLOWED: dict[str, frozenset[str]] = {
    "portable": PORTABLE,
    "ops": PORTABLE | {"MaxRoiPool", "NonMaxSuppression", "RoiAlign", "ScatterND"},
}


def check_graph(model: onnx.ModelProto, shapes: Mapping[str, Mapping[int, Any]], flavour: str) -> Counter[str]:
    """Count operators, after making sure that the graph keeps the promises of its flavour.

    Args:
        model: any.
        shapes: by input, the dimensions that must be free; the first is the batch, and that of every output.
        flavour: ``portable`` or ``ops``.

    Raises:
        InputError: an operator is not on the flavour's list, a dimension came out fixed, or a TopK is too large.
    """
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    operators = Counter(node.op_type for node in nodes)
    strange = sorted(operators.keys() - ALLOWED[flavour])
    if strange:
        raise InputError(
            f"the exported graph has operators that flavour {flavour} does not allow: {', '.join(strange)}"
        )
    _check_dimensions(model.graph, shapes)
    _check_selections(model.graph)
    return operators


def _check_dimensions(graph: onnx.GraphProto, shapes: Mapping[str, Mapping[int, Any]]) -> None:
    batches = set()
    for value in graph.input:
        for axis in shapes.get(value.name, {}):
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise InputError(f"the exported graph has a fixed dimension {axis} in its input {value.name}")
        batches.add(value.type.tensor_type.shape.dim[0].dim_param)
    for value in graph.output:
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].dim_param not in batches:
            raise InputError(f"the exported graph has a fixed batch in its output {value.name}")


def _check_selections(graph: onnx.GraphProto) -> None:
    values = {tensor.name: tensor for tensor in graph.initializer}
    values |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    for node in graph.node:
        if node.op_type != "TopK":
            continue
        if node.input[1] not in values:
            raise InputError(f"the exported graph selects a number of values that is not fixed ({node.name})")
        count = int(numpy_helper.to_array(values[node.input[1]]).reshape(-1)[0])
        if count > MOST_SORTED:
            raise InputError(f"the exported graph selects {count} values at once; TensorRT takes {MOST_SORTED}")
