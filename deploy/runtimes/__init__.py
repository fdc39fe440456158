"""Engines behind one interface; none of them needs torch."""

from __future__ import annotations

from pathlib import Path

from backbones.errors import InputError
from deploy.runtimes.classifier import ClassifierRuntime
from deploy.runtimes.detector import DetectorRuntime
from deploy.runtimes.onnx_runtime import OnnxSession

Runtime = ClassifierRuntime | DetectorRuntime


def load_runtime(path: str | Path, threads: int | None = None) -> Runtime:
    """An exported model, ready to predict.

    Args:
        path: an ``.onnx`` file from ``deploy/export.py``.
        threads: processor threads; by default as many as there are cores.

    Raises:
        InputError: the file is missing, damaged, or was exported by something else.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: not an exported model (.onnx); make one with deploy/export.py --model {path}")
    session = OnnxSession(path, threads)
    if session.metadata["task"] == "detection":
        return DetectorRuntime(session, session.metadata)
    return ClassifierRuntime(session, session.metadata)
