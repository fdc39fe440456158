"""Pickles of arrays are read; whatever else a pickle can hold is refused in one line."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.errors import InputError
from backbones.pickled_arrays import read_pickled_arrays

ARRAYS = {
    "images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(10, dtype=np.float32)[::3],
    "half": np.array([1.5, -2], dtype=np.float16),
    "big": np.array([1, 2, 300], dtype=">i4"),
    "flags": np.array([True, False]),
    "number": np.array(3.0),
    "empty": np.zeros((0, 5), dtype=np.float32),
    "words": np.array(["cat", "piglet"]),
    "bytes": np.array([b"ab", b"c"]),
}
PLAIN = {"list": [1, 2.5, True, None], "tuple": ("a", b"bytes", b""), 7: {"nested": OrderedDict(z=1, a=2)}}
# What Python 2 wrote: {'data': array([[1, 2], [3, 255]], dtype=uint8), 'labels': [3, 7], 'name': 'caf\xe9'}
PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x04\x01\x02\x03\xfftbU\x06labels]K\x03aK\x07aU\x04nameU\x04caf\xe9u."
)


def read(content: bytes, **settings: Any) -> Any:
    return read_pickled_arrays(io.BytesIO(content), **settings)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_values_come_back_as_they_were(protocol: int) -> None:
    got = read(pickle.dumps({**ARRAYS, **PLAIN}, protocol))
    for name, array in ARRAYS.items():
        assert type(got[name]) is np.ndarray
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        assert np.array_equal(got[name], array)
        assert got[name].flags.writeable
    assert {name: got[name] for name in PLAIN} == PLAIN
    assert type(got[7]["nested"]) is OrderedDict


def test_scalars_and_data_types_are_numpys() -> None:
    got = read(pickle.dumps([np.float32(1.25), np.int64(-3), np.bool_(True), np.dtype("<f4")]))
    assert got == [np.float32(1.25), -3, True, np.dtype("<f4")]
    assert [type(value) for value in got[:3]] == [np.float32, np.int64, np.bool_]


def test_python_2_strings_are_text_or_bytes_as_asked() -> None:
    text = read(PYTHON_2)
    assert text["data"].tolist() == [[1, 2], [3, 255]]
    assert (text["labels"], text["name"]) == ([3, 7], "caf\xe9")
    raw = read(PYTHON_2, encoding="bytes")
    assert raw[b"data"].tolist() == [[1, 2], [3, 255]]
    assert raw[b"name"] == b"caf\xe9"


def test_what_is_shared_stays_shared() -> None:
    array = np.zeros(3)
    got = read(pickle.dumps({"a": array, "b": array}))
    assert got["a"] is got["b"]


def test_a_path_is_read_and_named(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(ARRAYS))
    assert np.array_equal(read_pickled_arrays(tmp_path / "w.pkl")["images"], ARRAYS["images"])
    with pytest.raises(InputError, match=r"absent.pkl: cannot be read \(No such file"):
        read_pickled_arrays(tmp_path / "absent.pkl")
    with pytest.raises(InputError, match="batch 1: not a complete pickle"):
        read(b"", name="batch 1")


class Payload:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call[0], self.call[1:]


def test_nothing_named_by_the_file_runs(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for payload in (Payload(os.mkdir, str(witness)), Payload(eval, "1"), Payload(getattr, 1, "real")):
            with pytest.raises(InputError, match=r"asks for (posix|builtins|__builtin__)\.\w+.*it is not loaded"):
                read(pickle.dumps({"a": payload}, protocol))
    assert not witness.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([1, "a"], dtype=object), "data type 'O8'"),
        (np.array([{}, None], dtype=object), "data type 'O8'"),
        (np.zeros(2, dtype=[("a", "f4"), ("b", "O")]), "structured data type"),
        (np.zeros(2, dtype="V4"), "data type 'V4'"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "data type 'M8'"),
        (np.ma.masked_array([1, 2]), r"asks for numpy\.ma"),
        ({1, 2}, "holds set|asks for"),
        (bytearray(b"a"), r"bytearray"),
        (1j, r"complex"),
        (Path("a"), r"asks for pathlib"),
        (np.float32, "asks for numpy.float32"),
        (OrderedDict, "holds type"),
        (np.ndarray, "holds type"),
    ],
)
def test_other_objects_are_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(pickle.dumps({"a": value}))


def test_a_file_cannot_change_the_stand_ins() -> None:
    for state in (b"}", b"N}\x86"):
        with pytest.raises(InputError):
            read(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n" + state + b"b.")
        with pytest.raises(InputError):
            read(b"\x80\x02cnumpy\ndtype\n" + state + b"b.")
    with pytest.raises(InputError, match="codec 'rot13'"):
        read(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    with pytest.raises(InputError):
        read(b"\x80\x02U\x02idQ.")  # a persistent id
    assert read(PYTHON_2)["labels"] == [3, 7]


def test_shapes_must_fit_the_bytes() -> None:
    claimed = PYTHON_2.replace(b"(K\x01K\x02K\x02\x86", b"(K\x01K\x02J\xff\xff\xff\x7f\x86")
    with pytest.raises(InputError, match="other than its bytes"):
        read(claimed)


def test_nesting_is_bounded_and_cycles_are_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(InputError, match="holds itself"):
        read(pickle.dumps(ring))
    with pytest.raises(InputError, match="recursion"):
        read(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    doubled: Any = []
    for _ in range(60):
        doubled = [doubled, doubled]  # 2 to the 60th leaves, unless sharing is kept
    assert len(read(pickle.dumps(doubled))) == 2


def test_every_truncation_and_every_flipped_byte_ends_in_one_line() -> None:
    whole = pickle.dumps({"a": np.arange(3, dtype=np.float32), "b": [1, "x"]}, 2)
    for length in range(len(whole)):
        with pytest.raises(InputError):
            read(whole[:length])
    for position in range(len(whole)):
        for value in (0, 46, 82, 98, 255):
            try:
                read(whole[:position] + bytes([value]) + whole[position + 1 :])
            except InputError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"not a pickle", b"PK\x03\x04zip", b"\x80\x09", b"\x00" * 64])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="not a complete pickle of arrays"):
        read(content)
