"""Pickle files of numpy arrays, read without running anything that they name.

A pickle is a program: it names functions and has them called. The reader below answers the dozen names that arrays,
numpy's numbers and ordered dictionaries need with stand-ins of its own, refuses every other name, and builds the
arrays from their bytes afterwards. numpy's own unpickling is never entered, so no data type that a file makes up
reaches it.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError

_PLAIN = (str, bytes, int, float, bool, type(None), np.ndarray, np.generic)
_CODE = re.compile(r"\?|[biufc][0-9]{1,2}|[SU][0-9]{1,6}")
"""Numbers, booleans and strings of fixed length: everything whose bytes are its value."""


def read_pickled_arrays(path: Path | BinaryIO, *, encoding: str = "latin1", name: str = "") -> Any:
    """Read a pickle that holds numpy arrays and plain values.

    Admitted are arrays and scalars of numbers, booleans or strings, data types, dict, OrderedDict, list, tuple, str,
    bytes, int, float, bool and None. Arrays are fresh and writable.

    Args:
        path: a file, or a stream in binary mode.
        encoding: how Python 2's strings are read: ``latin1`` as str, ``bytes`` as bytes (CIFAR-10's batches).
        name: what messages call the content; by default the path.

    Raises:
        InputError: the file is missing, damaged, no pickle, or holds anything else.
    """
    if not isinstance(path, Path):
        return _read(path, encoding, name or str(getattr(path, "name", "the stream")))
    try:
        with path.open("rb") as stream:
            return _read(stream, encoding, name or str(path))
    except OSError as error:
        raise InputError(f"{name or path}: cannot be read ({error.strerror or error})") from error


def _read(stream: BinaryIO, encoding: str, name: str) -> Any:
    try:
        return _Finisher().finish(_ArrayUnpickler(stream, encoding=encoding).load())
    except _ForeignObjectError as error:
        raise InputError(f"{name}: {error}, which is neither array nor plain value; it is not loaded") from error
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{name}: not a complete pickle of arrays ({reason})") from error


class _ForeignObjectError(pickle.UnpicklingError):
    """The file asks for something that is not admitted."""


class _Function:
    """A stand-in that a file may call, but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _ForeignObjectError("sets the state of a function")


class _DataType:
    """Stands for ``numpy.dtype``: a code, and the byte order that its state adds."""

    def __init__(self, code: str | bytes, align: bool = False, copy: bool = True) -> None:
        self._code, self._order = _text(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *structure = state
        if any(part is not None for part in structure[:3]):
            raise _ForeignObjectError("holds a structured data type")
        self._order = _text(order)

    def finish(self) -> np.dtype[Any]:
        if not _CODE.fullmatch(self._code) or self._order not in "<>=|":
            raise _ForeignObjectError(f"holds values of data type {self._code[:20]!r}")
        return np.dtype(self._code).newbyteorder(self._order)  # type: ignore[arg-type] # checked above


class _Array:
    """Stands for ``numpy.ndarray`` until its shape, type and bytes are known."""

    def __init__(self) -> None:
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def finish(self) -> NDArray[Any]:
        shape, dtype, fortran, content = self._state[-4:]  # before them a version number
        return _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: str | bytes | bytearray, dtype: _DataType, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    kind = dtype.finish()
    data = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(data, bytes | bytearray) or len(data) != math.prod(shape) * kind.itemsize:
        raise ValueError(f"an array of shape {tuple(shape)} has other than its bytes")
    return np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C").copy()


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: _DataType, content: str | bytes) -> Any:
    return _array(content, dtype, (1,), "C")[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Bytes as protocol 2 writes them: text, to be encoded."""
    if encoding != "latin1":
        raise _ForeignObjectError(f"calls the codec {encoding[:20]!r}")
    return text.encode("latin1")


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


_NUMPY: dict[str, Any] = {
    "ndarray": _Array,
    "dtype": _DataType,
    "_reconstruct": _Function(_reconstruct),
    "scalar": _Function(_scalar),
    "_frombuffer": _Function(_array),
}
_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Function(_encode),
    ("builtins", "bytes"): _Function(lambda: b""),  # protocol 2 writes empty bytes as a call
    ("__builtin__", "bytes"): _Function(lambda: b""),
    **{("numpy", name): _NUMPY[name] for name in ("ndarray", "dtype")},
    **{
        (f"numpy.{core}.{module}", name): _NUMPY[name]
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise _ForeignObjectError(f"asks for {module}.{name}"[:120])
        return _ADMITTED[module, name]


class _Finisher:
    """Replaces the stand-ins in nested containers; what a file shares stays shared."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}

    def finish(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):  # numpy's among them come from _array alone
            return value
        key = id(value)  # the whole content stays alive meanwhile
        if key not in self._done:
            self._done[key] = _Unfinished
            self._done[key] = self._build(value)
        if self._done[key] is _Unfinished:
            raise ValueError("a container holds itself")
        return self._done[key]

    def _build(self, value: Any) -> Any:
        if isinstance(value, _Array | _DataType):
            return value.finish()
        if type(value) in (dict, OrderedDict):
            return type(value)((self.finish(key), self.finish(item)) for key, item in value.items())
        if type(value) in (list, tuple):
            return type(value)(self.finish(item) for item in value)
        raise _ForeignObjectError(f"holds {type(value).__name__.lstrip('_')}")


class _Unfinished:
    """Marks a container whose content is being built."""
