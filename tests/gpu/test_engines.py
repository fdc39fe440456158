"""Engines on a GPU: built for it, loaded, run, compared with ONNX Runtime, and timed. Not run where there is none."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from backbones.errors import InputError
from deploy.engines.building import build_plan
from deploy.engines.device_memory import find_gpu
from deploy.engines.options import BuildOptions
from deploy.runtimes import load_runtime
from deploy.runtimes.exported_models import ClassifierRuntime, DetectorRuntime
from deploy.runtimes.tensorrt_runtime import TensorRTSession
from detection.agreement import agreement
from detection.data.digits import compose_scene
from tests.deploy.engine_models import write_model

LIBRARIES = [library for library in ("tensorrt", "tensorrt_rtx") if find_spec(library)]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(find_gpu() is None, reason="needs an NVIDIA GPU and cuda-python"),
    pytest.mark.skipif(not LIBRARIES, reason="needs the extra tensorrt or tensorrt-rtx"),
]


@pytest.fixture(scope="module", params=LIBRARIES)
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    options = BuildOptions(library=request.param, profile_scales=(224, 384), max_batch=4)
    return build_plan(write_model("resnet18", "fp32", folder), folder / "resnet18-fp32.plan", options)


def test_logits_equal_onnx_runtimes_in_every_profile(classifier: Path) -> None:
    ours, theirs = load_runtime(classifier), load_runtime(classifier.with_suffix(".onnx"), engine="onnxruntime")
    assert isinstance(ours, ClassifierRuntime)
    assert isinstance(theirs, ClassifierRuntime)
    rng = np.random.default_rng(0)
    for shape in ((1, 224, 224), (4, 320, 256), (6, 384, 500), (1, 384, 1500), (1, 224, 224), (1, 224, 224)):
        images = rng.integers(0, 255, (*shape, 3), np.uint8)
        wanted = theirs.logits(images)
        error = np.abs(ours.logits(images) - wanted).max() / np.abs(wanted).max()
        assert error < 1e-3, shape


def test_replay_gives_the_same_and_how_long_it_takes(classifier: Path) -> None:
    from deploy.engines.binding import import_trt
    from deploy.engines.device_memory import CudaMemory
    from deploy.engines.plan_metadata import read_plan
    from deploy.engines.runner import EngineRunner

    trt = import_trt(read_plan(classifier)[2].library)
    images = np.random.default_rng(0).integers(0, 255, (1, 224, 224, 3), np.uint8)
    found, times = {}, {}
    for record in (False, True):
        runner = EngineRunner(trt, classifier.read_bytes(), CudaMemory(), record)
        for _ in range(20):
            found[record] = runner.run({"images": images})["logits"]
        began = time.perf_counter()
        for _ in range(100):
            runner.run({"images": images})
        times[record] = (time.perf_counter() - began) * 10
    assert np.array_equal(found[True], found[False])
    print(f"{classifier.parent.name}: {times[False]:.2f} ms queued, {times[True]:.2f} ms replayed")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_detections_agree(tmp_path: Path, library: str, precision: str) -> None:
    file = write_model("faster_rcnn_fpn", precision, tmp_path)
    options = BuildOptions(library=library, profile_scales=(400, 800), max_batch=2)
    ours = load_runtime(build_plan(file, tmp_path / "m.plan", options))
    theirs = load_runtime(file, engine="onnxruntime")
    assert isinstance(ours, DetectorRuntime)
    scenes = [compose_scene("val", number).image for number in range(4)]
    same = agreement(theirs.predict(scenes, 2, threshold=0), ours.predict(scenes, 2, threshold=0))
    print(f"{library} {precision}: {same.met} of {same.counted} detections")
    assert precision == "int8" or same.rate >= 0.98


@pytest.mark.parametrize("option", ["refit", "strip_weights", "version_compatible"])
def test_options_that_need_a_gpu_to_build(tmp_path: Path, option: str) -> None:
    file = write_model("resnet18", "fp32", tmp_path)
    options = BuildOptions(library=LIBRARIES[0], profile_scales=(224,), max_batch=1, **{option: True})
    session = TensorRTSession(build_plan(file, tmp_path / "m.plan", options))
    images = np.random.default_rng(0).integers(0, 255, (1, 224, 224, 3), np.uint8)
    wanted = load_runtime(file, engine="onnxruntime").session.run({"images": images})["logits"]
    assert np.allclose(session.run({"images": images})["logits"], wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    if option == "refit":
        session.runner.refit(file)


def test_a_damaged_engine_is_refused(classifier: Path, tmp_path: Path) -> None:
    from deploy.engines.plan_metadata import sidecar_of

    plan = tmp_path / "cut.plan"
    plan.write_bytes(classifier.read_bytes()[:-1000])
    sidecar_of(plan).write_text(sidecar_of(classifier).read_text())
    with pytest.raises(InputError, match="cut short"):
        TensorRTSession(plan)
