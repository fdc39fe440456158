"""The weights of an ONNX file into an engine that was built to take others, or without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backbones.errors import InputError
from deploy.engines.library_log import said


def refit(trt: Any, engine: Any, onnx_path: Path, log: Any) -> None:
    """Exchange all weights of a loaded engine (``--refit``, ``--strip-weights``). Needs a GPU.

    Args:
        trt: the bindings.
        engine: loaded; nothing may run in it meanwhile.
        onnx_path: of the same graph.
        log: of the library.

    Raises:
        InputError: the file's graph is another one, or lacks weights.
    """
    refitter = trt.Refitter(engine, log)
    weights_parser = trt.OnnxParserRefitter(refitter, log)
    if not weights_parser.refit_from_file(str(onnx_path)):
        raise InputError(f"{onnx_path}: its weights do not fit the engine: {said(log.errors)}")
    missing = refitter.get_missing_weights()
    if missing:
        raise InputError(f"{onnx_path}: lacks weights of the engine: {', '.join(sorted(missing)[:3])}")
    if not refitter.refit_cuda_engine():
        raise InputError(f"{onnx_path}: the engine refuses its weights: {said(log.errors)}")
