"""ONNX Runtime's CUDA provider, where it is installed, answers as its processor's does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from deploy.runtimes import onnx_runtime
from deploy.runtimes.onnx_runtime import OnnxSession
from tests.deploy.engine_models import write_model
from tests.deploy.small_graphs import write_detector_like

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
HAS_CUDA = (
    pytest.mark.gpu,
    pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu"),
)


def small(folder: Path) -> Path:
    return write_detector_like(folder / "small.onnx")


def whole(folder: Path) -> Path:
    return write_model("resnet18", "fp32", folder)


@pytest.mark.parametrize(
    ("provider", "write"),
    [
        (CPU, small),
        pytest.param(CPU, whole, marks=pytest.mark.slow),
        pytest.param(CUDA, small, marks=HAS_CUDA),
        pytest.param(CUDA, whole, marks=HAS_CUDA),
    ],
)
def test_providers_agree(
    tmp_path: Path, provider: str, write: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path)
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    inputs = {"images": images} | ({"sizes": np.array([[64, 64], [60, 50], [1, 2]])} if write is small else {})
    found = {}
    for name in (CPU, provider):
        monkeypatch.setattr(onnx_runtime, "_providers", lambda name=name: [name])
        session = OnnxSession(file)
        assert session._session.get_providers()[0] == name
        found[name] = session.run(inputs)
    for name, wanted in found[CPU].items():
        assert np.allclose(found[provider][name], wanted, rtol=1e-2, atol=1e-2 * np.abs(wanted).max()), name


def test_a_gpu_comes_first_where_there_is_one() -> None:
    chosen = onnx_runtime._providers()
    assert chosen[-1] == CPU
    assert chosen[0] == (CUDA if CUDA in onnxruntime.get_available_providers() else CPU)
