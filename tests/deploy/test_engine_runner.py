"""The runner and the plans' checks, on a stand-in whose every call is checked against TensorRT's API list."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from deploy.engines.plan_metadata import Gpu, sha256_of, sidecar_of
from deploy.engines.profiles import profiles_for
from deploy.runtimes.tensorrt_runtime import TensorRTSession
from tests.deploy.small_graphs import DETECTION, write_detector_like
from tests.deploy.tensorrt_stand_in import GPU, HostMemory, stand_in, write_plan

PROFILES = profiles_for(
    {"images": (-1, -1, -1, 3), "sizes": (-1, 2)},
    ModelMetadata.from_dict(DETECTION, "m.onnx"),
    scales=(64, 128),
    max_batch=3,
)  # sides to 128, and to 224


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_plan(tmp_path / "m.plan", write_detector_like(tmp_path / "m.onnx"), PROFILES, DETECTION)


def batch(number: int, height: int, width: int, seed: int = 0) -> dict[str, Any]:
    images = np.random.default_rng(seed).integers(0, 255, (number, height, width, 3), np.uint8)
    return {"images": images, "sizes": np.array([[height, width - place] for place in range(number)])}


def changed(plan: Path, **changes: Any) -> Path:
    """The plan with other facts in its sidecar."""
    file = sidecar_of(plan)
    about = json.loads(file.read_text())
    about["engine"] |= changes
    file.write_text(json.dumps(about))
    return plan


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("library", ["tensorrt", "tensorrt_rtx"])
def test_outputs_equal_onnx_runtimes(plan: Path, library: str, records: bool) -> None:
    """Three shapes in two profiles, in turns and repeated; one of them needs to run in parts."""
    memory = HostMemory(records=records)
    session = TensorRTSession(changed(plan, library=library), stand_in(library), memory)
    reference = onnxruntime.InferenceSession(str(plan.with_suffix(".onnx")))
    shapes = [(1, 64, 96), (2, 128, 224), (3, 128, 128), (1, 64, 96), (1, 64, 96), (1, 64, 96), (7, 224, 32)]
    for seed, shape in enumerate(shapes):
        inputs = batch(*shape, seed)
        found = session.run(inputs)
        wanted = dict(zip(session.outputs, reference.run(None, inputs), strict=True))
        assert found.keys() == wanted.keys() == {"boxes", "labels", "exact"}
        for name, values in wanted.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values), name
    assert (memory.recorded, memory.replayed) == ((2, 3) if records else (0, 0))
    title = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}[library]
    assert session.engine == f"{title} {stand_in().__version__}"
    assert session.metadata.task == "detection"


def test_repeated_shapes_are_recorded_once_and_dropped_with_another_shape(plan: Path) -> None:
    memory = HostMemory()
    session = TensorRTSession(plan, stand_in(), memory)
    first = session.run(batch(1, 64, 96, 0))
    for seed in range(1, 5):
        session.run(batch(1, 64, 96, seed))
    assert (memory.recorded, memory.replayed, memory.released) == (1, 4, 0)
    session.run(batch(1, 160, 96))  # the other profile has its own context
    assert memory.released == 0
    session.run(batch(2, 64, 96))
    assert memory.released == 1
    assert np.array_equal(session.run(batch(1, 64, 96, 0))["boxes"], first["boxes"])
    assert len(memory.device) == 10  # five tensors in two profiles; buffers grow and are used again


def test_what_is_returned_is_not_overwritten(plan: Path) -> None:
    session = TensorRTSession(plan, stand_in(), HostMemory())
    first = session.run(batch(1, 64, 96, 0))["boxes"]
    kept = first.copy()
    session.run(batch(1, 64, 96, 1))
    assert np.array_equal(first, kept)


def test_the_device_is_given_back(plan: Path) -> None:
    memory = HostMemory()
    session = TensorRTSession(plan, stand_in(), memory)
    session.run(batch(1, 64, 96))
    del session
    gc.collect()
    assert memory.closed


def test_inputs_that_do_not_fit_are_refused(plan: Path) -> None:
    session = TensorRTSession(plan, stand_in(), HostMemory())
    with pytest.raises(InputError, match=r"no optimization profile holds images \[1, 64, 512, 3\].* the engine has"):
        session.run(batch(1, 64, 512))
    with pytest.raises(InputError, match="no optimization profile holds"):
        session.run({**batch(2, 64, 96), "sizes": np.zeros((1, 2), np.int64)})
    with pytest.raises(InputError, match="no optimization profile holds"):
        session.run({**batch(2, 64, 96), "images": np.array(3, np.uint8)})
    with pytest.raises(InputError, match="the engine takes images, sizes, not images"):
        session.run({"images": np.zeros((1, 64, 64, 3), np.uint8)})
    with pytest.raises(InputError, match="input images: the engine takes uint8, not float64"):
        session.run({**batch(1, 64, 64), "images": np.zeros((1, 64, 64, 3))})


def test_another_version_is_refused_with_the_command_that_builds_anew(plan: Path) -> None:
    built = changed(plan, version="10.9.0.34")
    with pytest.raises(
        InputError,
        match=r"built by TensorRT 10\.9\.0\.34, here is 11\.\S+; build it here: python deploy/export.py --model",
    ):
        TensorRTSession(built, stand_in(), HostMemory())
    TensorRTSession(changed(plan, version_compatible=True), stand_in(), HostMemory())
    for version in ("9.3.0", "11.99.0"):  # two majors back, or newer than here
        with pytest.raises(InputError, match="built by TensorRT"):
            TensorRTSession(changed(plan, version=version), stand_in(), HostMemory())


def test_another_gpu_is_refused_unless_the_engine_was_built_for_it(plan: Path) -> None:
    sibling, older, newer = Gpu("NVIDIA L40", (8, 9)), Gpu("Tesla T4", (7, 5)), Gpu("NVIDIA H100", (9, 0))

    def opens(gpu: Gpu) -> bool:
        try:
            TensorRTSession(plan, stand_in(), HostMemory(gpu))
        except InputError as error:
            assert "built for NVIDIA L4 (compute capability 8.9), here is" in str(error)
            assert "build it here: python" in str(error)
            return False
        return True

    assert [opens(gpu) for gpu in (GPU, sibling, older, newer)] == [True, False, False, False]
    changed(plan, hardware_compatibility="same_compute_capability")
    assert [opens(gpu) for gpu in (GPU, sibling, older, newer)] == [True, True, False, False]
    changed(plan, hardware_compatibility="ampere_plus")
    assert [opens(gpu) for gpu in (GPU, sibling, older, newer)] == [True, True, False, True]


def test_rtx_judges_its_engines_itself(plan: Path) -> None:
    changed(plan, library="tensorrt_rtx", gpu=None)
    TensorRTSession(plan, stand_in("tensorrt_rtx"), HostMemory())
    text = json.loads(plan.read_text())
    plan.write_text(json.dumps({**text, "unsupported": True}))
    file = sidecar_of(plan)
    file.write_text(json.dumps({**json.loads(file.read_text()), "sha256": sha256_of(plan)}))
    with pytest.raises(
        InputError, match=r"TensorRT-RTX cannot run this engine on NVIDIA L4 \(compute capability\); build"
    ):
        TensorRTSession(plan, stand_in("tensorrt_rtx"), HostMemory())


def test_damaged_and_foreign_files_are_refused(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        TensorRTSession(tmp_path / "absent.plan", stand_in(), HostMemory())
    whole, sidecar = plan.read_bytes(), sidecar_of(plan).read_text()
    plan.write_bytes(whole[:-9])
    with pytest.raises(InputError, match=r"is not the file that m\.plan\.json describes, or cut short; build it here"):
        TensorRTSession(plan, stand_in(), HostMemory())
    about = json.loads(sidecar)
    sidecar_of(plan).write_text(json.dumps({**about, "sha256": sha256_of(plan)}))
    with pytest.raises(
        InputError, match=r"TensorRT 11.* cannot load the engine: .*magic tag does not match; build it here"
    ):
        TensorRTSession(plan, stand_in(), HostMemory())
    for text in ("{", "[]", "{}", '{"format": 2}', json.dumps({**about, "engine": {"gpu": None, "profiles": []}})):
        sidecar_of(plan).write_text(text)
        with pytest.raises(InputError, match="does not describe an engine"):
            TensorRTSession(plan, stand_in(), HostMemory())
    sidecar_of(plan).write_text('{"format": 99}')
    with pytest.raises(InputError, match="newer"):
        TensorRTSession(plan, stand_in(), HostMemory())
    sidecar_of(plan).unlink()
    with pytest.raises(InputError, match=r"m\.plan\.json: no such file"):
        TensorRTSession(plan, stand_in(), HostMemory())


def test_stripped_engines_take_their_weights_from_the_onnx_file(plan: Path) -> None:
    session = TensorRTSession(changed(plan, strip_weights=True), stand_in(), HostMemory())
    before = session.run(batch(1, 64, 96))["boxes"]
    other = write_detector_like(plan.with_name("other.onnx"), shift=1.0)
    session.runner.refit(other)
    assert np.allclose(session.run(batch(1, 64, 96))["boxes"], before + 1, atol=1e-4)
    plan.with_suffix(".onnx").write_bytes(other.read_bytes())
    with pytest.raises(InputError, match=r"built without weights; put the m\.onnx that it was built from beside it"):
        TensorRTSession(plan, stand_in(), HostMemory())


def test_types_without_an_array_are_named(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = stand_in()
    monkeypatch.setattr(
        "tests.deploy.tensorrt_stand_in.ICudaEngine.get_tensor_dtype", lambda self, name: "DataType.BF16"
    )
    with pytest.raises(InputError, match="tensor images is of type BF16, which NumPy lacks"):
        TensorRTSession(plan, trt, HostMemory())


def test_without_a_gpu_the_session_says_so(plan: Path) -> None:
    from deploy.engines.device_memory import find_gpu

    if find_gpu() is not None:
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"no NVIDIA GPU or driver here|needs cuda-python"):
        TensorRTSession(plan, stand_in())


def test_the_profile_of_the_record_is_that_of_the_engine(plan: Path) -> None:
    session = TensorRTSession(plan, stand_in(), HostMemory())
    assert session.runner.profiles == tuple(replace(profile, name=str(place)) for place, profile in enumerate(PROFILES))
