"""A step of an answer from the files and parameters of its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deploy.serving.stages import ClassifierAnswerStage, DetectorAnswerStage, GraphStage, PictureStage, Stage
from deploy.serving.tensors import DTYPES

ABOUT = "about.json"
"""The exported model's metadata, beside each step."""
MODEL_FILES = ("model.onnx", "model.plan")


def open_stage(folder: Path, parameters: Mapping[str, str], outputs: Mapping[str, str]) -> Stage:
    """Open a step.

    Args:
        folder: of the model's version.
        parameters: ``stage`` (``picture``, ``graph`` or ``answer``) and what it needs, as ``configuration.py`` writes.
        outputs: the protocol's or protobuf's type of each output.

    Raises:
        InputError: the model file cannot be loaded.
    """
    metadata = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if parameters["stage"] == "picture":
        return PictureStage(metadata, int(parameters["max_pixels"]))
    if parameters["stage"] == "answer":
        return DetectorAnswerStage(metadata) if metadata["task"] == "detection" else ClassifierAnswerStage()
    from deploy.runtimes import load_runtime

    path = next(folder / name for name in MODEL_FILES if (folder / name).exists())
    threads = int(parameters["threads"]) or None
    runtime = load_runtime(path, threads, hint=parameters.get("hint", "latency"))
    dtypes = {name: DTYPES[kind] for name, kind in outputs.items()}
    multiple = runtime.settings.input.multiple if metadata["task"] == "detection" else None  # type: ignore[union-attr]
    return GraphStage(runtime.session, multiple, dtypes)
