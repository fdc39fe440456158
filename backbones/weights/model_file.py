"""One file for a model: its tensors, and a JSON text that says what they are. Metadata alone are read without torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from backbones.errors import InputError
from backbones.metadata import KEY, ModelMetadata
from backbones.running.atomic_write import atomic_path
from backbones.running.run_folder import STATE, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor


def weights_path(source: str | Path) -> Path:
    """The file that a run folder or a file's name means.

    Raises:
        InputError: the folder has no weights, or there is no such file.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            state = f"; its last training state is {path / STATE}" if (path / STATE).is_file() else ""
            raise InputError(f"{path}: has no {WEIGHTS}{state}")
        return path / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def write_model(path: Path, tensors: Mapping[str, Tensor], metadata: ModelMetadata) -> None:
    """Write tensors and metadata atomically; the tensors' SHA-256 joins the metadata.

    Args:
        path: a ``.safetensors`` file.
        tensors: by name; copied to the CPU.
        metadata: what they are.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = replace(metadata, sha256=fingerprint(contiguous)).to_text()
    with atomic_path(path) as partial:
        save_file(contiguous, partial, metadata={KEY: text})


def read_model(path: Path) -> tuple[dict[str, Tensor], ModelMetadata]:
    """Tensors and metadata of a file that ``write_model`` wrote.

    Raises:
        InputError: the file is missing, damaged, altered, or has no metadata of ours.
    """
    tensors, metadata = read_safetensors(path)
    if metadata is None:
        raise _unknown(path)
    return tensors, metadata


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], ModelMetadata | None]:
    """The tensors of any safetensors file, whoever wrote it, and its metadata if they are ours; the file is read once.

    Raises:
        InputError: the file is missing, damaged, altered, or of a newer version.
    """
    try:
        with safe_open(weights_path(path), framework="pt") as file:
            metadata = _metadata((file.metadata() or {}).get(KEY), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a complete safetensors file ({error})") from error
    if metadata is not None and fingerprint(tensors) != metadata.sha256:
        raise InputError(f"{path}: the tensors do not match the checksum beside them; copy the file again")
    return tensors, metadata


def read_metadata(path: Path) -> ModelMetadata:
    """The metadata alone, without the tensors and without torch.

    Raises:
        InputError: the file is missing, damaged, of a newer version, or has no metadata of ours.
    """
    try:
        with safe_open(weights_path(path), framework="numpy") as file:
            metadata = _metadata((file.metadata() or {}).get(KEY), path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a complete safetensors file ({error})") from error
    if metadata is None:
        raise _unknown(path)
    return metadata


def _metadata(text: str | None, path: Path) -> ModelMetadata | None:
    """From the text in a file; None where a whole file has none."""
    if text is None:
        return None
    metadata = ModelMetadata.from_text(text, path)
    named = re.search(r"-([0-9a-f]{8})$", path.stem)
    if named and not (metadata.sha256 or "").startswith(named[1]):
        raise InputError(
            f"{path}: the file's name promises checksum {named[1]}..., it holds {(metadata.sha256 or '')[:8]}..."
        )
    return metadata


def _unknown(path: Path) -> InputError:
    return InputError(f"{path}: has no metadata of this project; its architecture and classes are unknown")


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
