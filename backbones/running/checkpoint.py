"""The whole training state in one file of plain types."""

from __future__ import annotations

import io
import lzma
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from backbones.errors import InputError
from backbones.running.atomic_write import atomic_path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts; a kill at any moment leaves the old file or the new one."""
    with atomic_path(path) as partial:
        torch.save(state, partial)


def read_torch_file(path: Path, data: bytes | None = None) -> dict[str, Any]:
    """What ``torch.save`` or ``save_checkpoint`` wrote, compressed by xz or not: on the CPU, plain types alone.

    Args:
        path: the file.
        data: its bytes, where they have been read already.

    Raises:
        InputError: the file is missing, damaged, or holds objects other than tensors and plain types.
    """
    try:
        if path.suffix == ".xz":
            data = lzma.decompress(path.read_bytes() if data is None else data)
        source: Any = path if data is None else io.BytesIO(data)
        content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        if not path.name.endswith(".xz") and path.read_bytes()[:1] not in (b"P", b"\x80"):
            raise InputError(f"{path}: not a torch file") from error
        raise InputError(
            f"{path}: holds objects other than tensors and plain types, which could run code; it is not loaded"
        ) from error
    except (LookupError, AttributeError, TypeError, AssertionError, struct.error) as error:
        # bytes that are no pickle, read as one
        raise InputError(f"{path}: not a torch file") from error
    except (OSError, RuntimeError, EOFError, ValueError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a complete torch file ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a dictionary of tensors")
    return content
