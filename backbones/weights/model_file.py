"""One file for a model: its tensors, and a JSON text that says what they are."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from backbones.errors import InputError
from backbones.running.atomic_write import atomic_path
from backbones.running.run_folder import WEIGHTS

KEY = "shortcut"
FORMAT = 1


def write_model(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and metadata atomically; the tensors' SHA-256 joins the metadata.

    Args:
        path: a ``.safetensors`` file.
        tensors: by name; copied to the CPU.
        metadata: plain values: task, architecture, classes, input convention, recipe, metrics.
    """
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT, **metadata, "sha256": fingerprint(contiguous)})
    with atomic_path(path) as partial:
        save_file(contiguous, partial, metadata={KEY: text})


def read_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that ``write_model`` wrote.

    Raises:
        InputError: the file is missing, damaged, altered, or has no metadata of ours.
    """
    metadata = read_metadata(path)
    tensors = read_tensors(path)
    if fingerprint(tensors) != metadata["sha256"]:
        raise InputError(f"{path}: the tensors do not match the checksum beside them; copy the file again")
    return tensors, metadata


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of any safetensors file, whoever wrote it.

    Raises:
        InputError: the file is missing or damaged.
    """
    _open_text(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged ({error})") from error


def is_ours(path: Path) -> bool:
    """Whether a safetensors file has metadata of this project.

    Raises:
        InputError: the file is missing or damaged.
    """
    return _open_text(path) is not None


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata alone, without reading the tensors.

    Raises:
        InputError: the file is missing, damaged, or has no metadata of ours.
    """
    text = _open_text(path)
    if text is None:
        raise InputError(f"{path}: has no metadata of this project; its architecture and classes are unknown")
    metadata: dict[str, Any] = json.loads(text)
    if metadata["format"] > FORMAT:
        raise InputError(f"{path}: format {metadata['format']} is newer than this version reads ({FORMAT}); update")
    named = re.search(r"-([0-9a-f]{8})$", path.stem)
    if named and not metadata["sha256"].startswith(named[1]):
        raise InputError(
            f"{path}: the file's name promises checksum {named[1]}..., it holds {metadata['sha256'][:8]}..."
        )
    return metadata


def _open_text(path: Path) -> str | None:
    """The JSON text of our metadata; None where a whole file has none."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            text: str | None = (file.metadata() or {}).get(KEY)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a complete safetensors file ({error})") from error
    return text


def task_of(source: Path) -> str:
    """What a run folder or a file is for: ``detection`` or ``classification``; files that do not say classify.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = source / WEIGHTS if source.is_dir() else source
    if path.suffix != ".safetensors" or not is_ours(path):
        return "classification"
    task: str = read_metadata(path)["task"]
    return task


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
