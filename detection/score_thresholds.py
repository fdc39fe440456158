"""Score thresholds by class, kept in the weights file so that prediction, server and page use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backbones.errors import InputError
from backbones.weights.model_file import read_model, weights_path, write_model


def store_thresholds(source: str | Path, thresholds: Sequence[float]) -> Path:
    """Rewrite a detector's file with these thresholds; tensors, checksum and other metadata stay.

    Args:
        source: a run folder, or a ``.safetensors`` file.
        thresholds: the least score of each class, such as ``Evaluation.best_thresholds``.

    Returns:
        The file.

    Raises:
        InputError: it is no trained detector's file, or there are more or fewer thresholds than classes.
    """
    path = Path(source) if Path(source).suffix else weights_path(source)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: thresholds are stored in trained weights; store them there, then export again")
    tensors, metadata = read_model(path)
    if metadata.task != "detection":
        raise InputError(f"{path}: holds {metadata.called}, not a detector")
    if len(thresholds) != len(metadata.classes):
        raise InputError(f"{path}: {len(thresholds)} thresholds for {len(metadata.classes)} classes")
    architecture = {**metadata.architecture, "score_thresholds": [float(value) for value in thresholds]}
    write_model(path, tensors, replace(metadata, architecture=architecture))
    return path
