"""From a graph to an ONNX file with dynamic batch, height and width."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.metadata import KEY, ModelMetadata
from backbones.running.atomic_write import atomic_path
from deploy.operators import translations

OPSETS = {"bf16": 22}
"""Convolutions take bf16 from this version on; other files have ``OPSET``, which older engines read, too."""
OPSET = 20

Shapes = dict[str, dict[int, Any]]
_MOST_IMAGES, _LARGEST = 1024, 4096


def dynamic_pictures(multiple: int = 1, place: str = "") -> dict[int, Any]:
    """Free batch, height and width of a [B, H, W, 3] input; sizes are multiples of ``multiple``.

    ``place`` ends the names of height and width, so that they differ between inputs; the batch is one.
    """
    batch = torch.export.Dim("batch", min=1, max=_MOST_IMAGES)
    height, width = (torch.export.Dim(f"{name}{place}", min=1, max=_LARGEST) for name in ("height", "width"))
    return {0: batch, 1: height * multiple if multiple > 1 else height, 2: width * multiple if multiple > 1 else width}


def trace(
    graph: nn.Module,
    example: dict[str, Tensor],
    outputs: Sequence[str],
    shapes: Shapes,
    precision: str = "fp32",
    argument: str | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a module.

    Args:
        graph: the module.
        example: its inputs by name, with a batch of 2 (a batch of 1 would be taken for a constant).
        outputs: names of its outputs.
        shapes: the free dimensions of each input.
        precision: of its layers.
        argument: the name under which the module takes all inputs as one, if each is no argument of its own.
    """
    kwargs, free = ({argument: example}, {argument: shapes}) if argument else (example, shapes)
    with _silence():
        program = torch.onnx.export(
            graph, kwargs=kwargs, dynamo=True, input_names=list(example), output_names=list(outputs),
            dynamic_shapes=free, external_data=False, verbose=False, opset_version=OPSETS.get(precision, OPSET),
            custom_translation_table=translations(),
        )  # fmt: skip
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def write_onnx(model: onnx.ModelProto, metadata: ModelMetadata, path: Path) -> None:
    """Check a model and write it, under a temporary name first.

    Args:
        model: from ``trace``, or quantised.
        metadata: written into the file.
        path: ``.onnx``.

    Raises:
        InputError: it breaks ONNX's rules, or is too large for one file.
    """
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, metadata.to_text()
    try:
        onnx.checker.check_model(model)
        with atomic_path(path) as partial:
            onnx.save(model, str(partial))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())[:200]}") from error


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
