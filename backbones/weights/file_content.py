"""Another project's weight file, reduced to named tensors and the plain values beside them."""

from __future__ import annotations

import io
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.pickled_arrays import read_pickled_arrays
from backbones.running.checkpoint import read_torch_file
from backbones.weights.foreign_names import without_wrappers
from backbones.weights.model_file import read_tensors

_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "blobs")


@dataclass(frozen=True)
class FileContent:
    """What a file holds.

    Attributes:
        tensors: by name, in fp32 where they are of floating point.
        about: texts and numbers found beside them (``__author__``, ``best_prec1``).
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]


def read_content(path: Path) -> FileContent:
    """Read a ``.safetensors``, a pickle of arrays (``.pkl``) or a torch file; the latter two may end in ``.xz``.

    Containers (``state_dict``, ``model``, ...) are opened, and the prefixes of DistributedDataParallel and
    torch.compile removed, in any nesting.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    if path.suffix == ".safetensors":
        return content_of(read_tensors(path))
    if ".pkl" in path.suffixes:
        return content_of(_read_pickle(path))
    return content_of(read_torch_file(path))


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


def _read_pickle(path: Path) -> dict[str, Any]:
    if path.suffix != ".xz":
        content = read_pickled_arrays(path)
    else:
        try:
            content = read_pickled_arrays(io.BytesIO(lzma.decompress(path.read_bytes())), name=str(path))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except (OSError, lzma.LZMAError) as error:
            raise InputError(f"{path}: not a complete .xz file ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a dictionary of arrays")
    return content
