"""A weight file, whoever wrote it, reduced to named tensors and what is said of them. Each file is read once."""

from __future__ import annotations

import hashlib
import io
import lzma
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from backbones.pickled_arrays import read_pickled_arrays
from backbones.running.checkpoint import load_checkpoint
from backbones.running.training_state import is_training_state, state_metadata, state_weights
from backbones.weights.foreign_names import without_wrappers
from backbones.weights.model_file import read_safetensors, weights_path

_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "blobs")


@dataclass(frozen=True)
class FileContent:
    """What a file holds.

    Attributes:
        tensors: by name; in fp32 where they are of floating point and another project's.
        about: texts and numbers found beside them (``__author__``, ``best_prec1``).
        metadata: of our own files, which say what they are; None of others.
        origin: the file, for messages.
        data: its bytes, of other projects' files that may be told by their checksum.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    metadata: ModelMetadata | None = None
    origin: str = ""
    data: bytes = field(default=b"", repr=False)

    def checksum(self, algorithm: str) -> str:
        """Of the file's bytes, in hexadecimal digits."""
        return hashlib.new(algorithm, self.data, usedforsecurity=False).hexdigest()


def read_content(source: str | Path, data: bytes | None = None) -> FileContent:
    """Read a run folder, a ``.safetensors``, a run's ``last.pt``, a pickle of arrays (``.pkl``) or a torch file.

    The latter two may end in ``.xz``. Containers (``state_dict``, ``model``, ...) are opened, and the prefixes of
    DistributedDataParallel and torch.compile removed, in any nesting.

    Args:
        source: the folder or file.
        data: the bytes of a pickle or torch file, where they have been read already.

    Raises:
        InputError: the file is missing, damaged, exported, of a newer version, or holds something else.
    """
    if Path(source).suffix in (".onnx", ".plan"):
        raise InputError(f"{source}: is exported already; name the run folder or the weights it was exported from")
    path = weights_path(source)
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        if metadata is None:
            return replace(content_of(tensors), origin=str(path))
        return FileContent(tensors, {}, metadata, str(path))
    try:
        data = path.read_bytes() if data is None else data
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if ".pkl" in path.suffixes:
        return replace(content_of(_read_pickle(path, data)), origin=str(path), data=data)
    values = load_checkpoint(path, data)
    if is_training_state(values):
        return FileContent(state_weights(values), {}, state_metadata(values, path), str(path))
    return replace(content_of(values), origin=str(path), data=data)


def content_of(values: Mapping[str, Any]) -> FileContent:
    """Tensors and plain values of a dictionary, whatever containers lie around them."""
    about: dict[str, Any] = {}
    while True:
        about.update((name, value) for name, value in values.items() if isinstance(value, str | int | float))
        inner = next((values[name] for name in _CONTAINERS if isinstance(values.get(name), Mapping)), None)
        if inner is None:
            break
        values = inner
    found = {str(name): _tensor(value) for name, value in values.items() if _is_array(value)}
    return FileContent(without_wrappers(found), about)


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        tensor = value.detach()
    else:
        tensor = torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")).reshape(value.shape))
    return tensor.float() if tensor.is_floating_point() else tensor


def _read_pickle(path: Path, data: bytes) -> dict[str, Any]:
    try:
        plain = lzma.decompress(data) if path.suffix == ".xz" else data
    except lzma.LZMAError as error:
        raise InputError(f"{path}: not a complete .xz file ({error})") from error
    content = read_pickled_arrays(io.BytesIO(plain), name=str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a dictionary of arrays")
    return content
