"""From a graph to an ONNX file with dynamic batch, height and width."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.running.atomic_write import atomic_path
from deploy.metadata import KEY

OPSET = 20
FORBIDDEN = ("NonZero", "Loop", "If", "Scan", "NonMaxSuppression")
"""Operators whose output shapes depend on values: engines refuse them, or lose the dynamic batch over them."""

Shapes = dict[str, dict[int, Any]]


def dynamic_pictures(multiple: int = 1) -> dict[int, Any]:
    """Free batch, height and width of a [B, H, W, 3] input; sizes are multiples of ``multiple``."""
    batch, height, width = (torch.export.Dim(name, min=1, max=limit) for name, limit in _LIMITS)
    return {0: batch, 1: height * multiple if multiple > 1 else height, 2: width * multiple if multiple > 1 else width}


_LIMITS = (("batch", 1024), ("height", 4096), ("width", 4096))


def export_onnx(
    graph: nn.Module,
    example: dict[str, Tensor],
    outputs: Sequence[str],
    shapes: Shapes,
    metadata: dict[str, Any],
    path: Path,
) -> Counter[str]:
    """Trace, check and write.

    Args:
        graph: the module.
        example: its inputs by name, with a batch of 2 (a batch of 1 would be taken for a constant).
        outputs: names of its outputs.
        shapes: the free dimensions of each input.
        metadata: plain values, written into the file.
        path: ``.onnx``; written under a temporary name and renamed.

    Returns:
        How often each operator occurs.

    Raises:
        InputError: the graph came out with a forbidden operator or a fixed dimension.
    """
    with _silence():
        program = torch.onnx.export(
            graph, kwargs=example, dynamo=True, input_names=list(example), output_names=list(outputs),
            dynamic_shapes=shapes, external_data=False, verbose=False, opset_version=OPSET,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    operators = check_graph(model, shapes)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(metadata)
    onnx.checker.check_model(model)
    with atomic_path(path) as partial:
        onnx.save(model, str(partial))
    return operators


def check_graph(model: onnx.ModelProto, shapes: Shapes) -> Counter[str]:
    """Count operators, after making sure that none is forbidden and that free dimensions stayed free.

    Raises:
        InputError: one is, or one did not.
    """
    operators = Counter(node.op_type for node in model.graph.node)
    for function in model.functions:
        operators.update(node.op_type for node in function.node)
    found = [name for name in FORBIDDEN if operators[name]]
    if found:
        raise InputError(f"the exported graph has operators with data-dependent shapes: {', '.join(found)}")
    for value in model.graph.input:
        for axis in shapes.get(value.name, {}):
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise InputError(f"the exported graph has a fixed dimension {axis} in its input {value.name}")
    return operators


@contextlib.contextmanager
def _silence() -> Any:
    """The exporter prints progress and warns of its own internals."""
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        quiet.setLevel(level)
