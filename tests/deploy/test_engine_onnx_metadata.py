"""The metadata of an ONNX file, read without the onnx package."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from deploy.engines.onnx_metadata import read_onnx_metadata
from tests.deploy.small_graphs import DETECTION, write_detector_like, write_graph


def test_it_is_what_the_onnx_package_reads(tmp_path: Path) -> None:
    assert read_onnx_metadata(write_detector_like(tmp_path / "m.onnx")) == ModelMetadata.from_dict(DETECTION, "m.onnx")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_onnx_metadata(tmp_path / "absent.onnx")
    bare = write_graph(tmp_path / "bare.onnx", [], {}, {}, {}, None)
    with pytest.raises(InputError, match="has no metadata of this project"):
        read_onnx_metadata(bare)
    newer = write_graph(tmp_path / "newer.onnx", [], {}, {}, {}, {"format": 99})
    with pytest.raises(InputError, match="newer"):
        read_onnx_metadata(newer)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = write_detector_like(tmp_path / "m.onnx").read_bytes()
    for kept in range(len(whole) - 1, 0, -97):
        (tmp_path / "cut.onnx").write_bytes(whole[:kept])
        with pytest.raises(InputError, match=r"not an ONNX file, or cut short|has no metadata"):
            read_onnx_metadata(tmp_path / "cut.onnx")
    for content in (b"PK\x03\x04 an archive", b"\xff" * 40, b"\x72" + b"\xff" * 9 + b"\x01", b""):
        (tmp_path / "other.onnx").write_bytes(content)
        with pytest.raises(InputError):
            read_onnx_metadata(tmp_path / "other.onnx")


def test_fixed_width_fields_are_stepped_over(tmp_path: Path) -> None:
    file = write_detector_like(tmp_path / "m.onnx")
    # Fields 900 of four and 901 of eight bytes: later versions of the format may have such.
    unknown = bytes([0xA5, 0x38, *range(4), 0xA9, 0x38, *range(8)])
    file.write_bytes(unknown + file.read_bytes())
    assert onnx.load(file).graph.node
    assert read_onnx_metadata(file) == ModelMetadata.from_dict(DETECTION, "m.onnx")
