"""The metadata of an ONNX file without its graph, and without the onnx package, which a GPU server need not have.

An ONNX file is one protobuf message (onnx.proto, ModelProto); field 14 holds the pairs of ``metadata_props``, each with
key (1) and value (2). Everything else, the weights above all, is stepped over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from backbones.errors import InputError
from backbones.metadata import KEY, ModelMetadata, read_exported

_PROPERTIES, _KEY, _VALUE = 14, 1, 2
_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5
_MOST_BYTES = 16 * 2**20


def read_onnx_metadata(path: Path) -> ModelMetadata:
    """What ``deploy/export.py`` wrote into the file.

    Raises:
        InputError: the file is missing, damaged, or was written by something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return read_exported(_text_of(path), path)
    except InputError:
        raise
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not an ONNX file, or cut short ({error})") from error


def is_exported(path: Path) -> bool:
    """Whether ``deploy/export.py``, of whatever version, wrote the file."""
    try:
        return _text_of(path) is not None
    except (OSError, ValueError, EOFError):
        return False


def _text_of(path: Path) -> str | None:
    with path.open("rb") as stream:
        return dict(_pair(stream, length) for length in _fields(stream, path.stat().st_size, _PROPERTIES)).get(KEY)


def _pair(stream: BinaryIO, length: int) -> tuple[str, str]:
    end, parts = stream.tell() + length, {_KEY: "", _VALUE: ""}
    while stream.tell() < end:
        number, size = _next_field(stream)
        value = stream.read(size or 0)
        if number in parts:
            parts[number] = value.decode()
    return parts[_KEY], parts[_VALUE]


def _fields(stream: BinaryIO, end: int, wanted: int) -> Iterator[int]:
    """The length of each field of that number, at whose first byte the stream then stands."""
    while stream.tell() < end:
        number, size = _next_field(stream)
        if size is None:
            continue
        behind = stream.tell() + size
        if behind > end:
            raise EOFError("a field reaches beyond the end")
        if number == wanted:
            if size > _MOST_BYTES:
                raise ValueError("metadata of more than 16 MiB")
            yield size
        stream.seek(behind)


def _next_field(stream: BinaryIO) -> tuple[int, int | None]:
    """A field's number, and how many bytes follow; None where its value has just been read."""
    tag = _varint(stream)
    kind = tag & 7
    if kind == _VARINT:
        _varint(stream)
        return tag >> 3, None
    if kind not in (_EIGHT_BYTES, _DELIMITED, _FOUR_BYTES):
        raise ValueError(f"a field of unknown kind {kind}")
    return tag >> 3, _varint(stream) if kind == _DELIMITED else 8 if kind == _EIGHT_BYTES else 4


def _varint(stream: BinaryIO) -> int:
    value = 0
    for place in range(10):
        byte = stream.read(1)
        if not byte:
            raise EOFError("it ends inside a field")
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise ValueError("a number of more than ten bytes")
