"""Every call of TensorRT that this project makes exists in TensorRT 11.4, with these arguments."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import pytest

from tests.conftest import ROOT
from tests.deploy.tensorrt_api import api, check_source, fits

SOURCES = sorted([*(ROOT / "deploy" / "engines").glob("*.py"), ROOT / "deploy" / "runtimes" / "tensorrt_runtime.py"])

TENSORRT_8 = """
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
config.set_flag(trt.BuilderFlag.FP16)
config.max_workspace_size = 1 << 30
config.int8_calibrator = calibrator
optimization_profile.set_shape("x", min=a, opt=b, maximum=c)
engine = builder.build_engine(network, config)
self._context.set_binding_shape(0, shape)
context.execute_async_v2(bindings, stream)
"""


def test_all_calls_exist() -> None:
    checked = 0
    for path in SOURCES:
        count, wrong = check_source(path.read_text())
        assert not wrong, f"{path}: {wrong}"
        checked += count
    assert checked >= 60


def test_the_check_finds_calls_of_tensorrt_8() -> None:
    _, wrong = check_source(TENSORRT_8)
    assert len(wrong) == 8
    assert "line 2: trt.NetworkDefinitionCreationFlag does not exist" in wrong
    assert "line 6: IOptimizationProfile.set_shape: no overload takes these arguments" in wrong


def test_overloads() -> None:
    assert fits([["a", "b="]], 1, [])
    assert fits([["a", "b="]], 1, ["b"])
    assert fits([[], ["a"]], 0, [])
    assert not fits([["a", "b"]], 1, [])
    assert not fits([["a"]], 1, ["a"])
    assert not fits([["a"]], 2, [])


@pytest.mark.parametrize("library", ["tensorrt", "tensorrt_rtx"])
def test_the_list_agrees_with_the_installed_bindings(library: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    trt = import_module(library)
    for name, members in api()["classes"].items():
        absent = [member for member in members if not hasattr(getattr(trt, name), member)]
        assert not absent or (library == "tensorrt" and absent == ["get_engine_validity"]), (name, absent)
    for name, members in api()["enums"].items():
        if library == "tensorrt_rtx" or name != "EngineValidity":
            assert set(members) - {"PREFER_JIT_PYTHON_PLUGINS"} <= set(getattr(trt, name).__members__), name
