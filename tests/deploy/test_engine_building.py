"""Engines built by NVIDIA's own parser and builder, without a GPU, by TensorRT-RTX. They are not run."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path

import pytest
from onnx import helper

from backbones.errors import InputError
from deploy.engines import binding
from deploy.engines.binding import import_trt
from deploy.engines.building import build_plan
from deploy.engines.device_memory import find_gpu
from deploy.engines.options import BuildOptions
from deploy.engines.plan_metadata import read_plan, sha256_of, sidecar_of
from deploy.engines.profiles import CLASSIFICATION_SCALES, Profile
from tests.deploy.engine_models import KINDS, write_model
from tests.deploy.small_graphs import CLASSIFICATION, write_classifier_like, write_graph

RTX = BuildOptions(library="tensorrt_rtx", max_batch=2)
needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="needs the extra tensorrt-rtx")
needs_no_gpu = pytest.mark.skipif(find_gpu() is not None, reason="with a GPU these options work")


@needs_rtx
def test_resnet18_builds_with_all_profiles(tmp_path: Path) -> None:
    file = write_model("resnet18", "fp32", tmp_path)
    plan = build_plan(file, tmp_path / "engines" / "m.plan", BuildOptions(library="tensorrt_rtx"))
    _, metadata, record = read_plan(plan)
    assert metadata.task == "classification"
    assert [profile.name for profile in record.profiles] == [*(f"s{side}" for side in CLASSIFICATION_SCALES), "long"]
    assert record.profiles[0].max["images"] == (8, 448, 448, 3)
    assert (record.library, record.onnx, record.onnx_sha256) == ("tensorrt_rtx", file.name, sha256_of(file))
    assert record.version == import_trt("tensorrt_rtx").__version__
    assert 30e6 < plan.stat().st_size < 100e6  # 11.7 million weights of four bytes
    assert sorted(path.name for path in plan.parent.iterdir()) == ["m.plan", "m.plan.json"]


@needs_rtx
def test_the_options_reach_the_builder(tmp_path: Path) -> None:
    file, cache = write_classifier_like(tmp_path / "m.onnx"), tmp_path / "timings" / "cache"
    options = BuildOptions(
        library="tensorrt_rtx", profile_scales=(32, 64), timing_cache=str(cache), workspace=0.5, optimization_level=1,
        hardware_compatibility="ampere_plus", tf32=True,
    )  # fmt: skip
    for _ in range(2):  # the second build reads the cache
        plan = build_plan(file, tmp_path / "m.plan", options)
    assert cache.stat().st_size > 0
    about = json.loads(sidecar_of(plan).read_text())["engine"]
    assert about["options"]["optimization_level"] == 1
    assert about["rebuild"] == (
        f"python deploy/export.py --model {file} --format tensorrt --library tensorrt_rtx --profile-scales 32 64 "
        f"--timing-cache {cache} --workspace 0.5 --optimization-level 1 --hardware-compatibility ampere_plus "
        f"--tf32 --output {plan}"
    )


@needs_rtx
def test_what_cannot_be_built_gets_one_line_and_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "shortcut")
    target = tmp_path / "out" / "m.plan"
    good = write_classifier_like(tmp_path / "good.onnx")
    foreign = helper.make_node("Frobnicate", ["mean"], ["logits"], "odd", domain="ours")
    unknown = write_classifier_like(tmp_path / "unknown.onnx", foreign)
    wrong = Profile("other", {"pixels": (1,)}, {"pixels": (1,)}, {"pixels": (1,)})
    shape = Profile("flat", {"images": (1, 9)}, {"images": (1, 9)}, {"images": (1, 9)})
    cases = [
        (lambda: build_plan(unknown, target, RTX), r"unknown\.onnx: TensorRT-RTX cannot read it: .*odd.*Frobnicate"),
        (lambda: build_plan(good, target, RTX, profiles=()), "no optimization profile: the inputs images have free"),
        (lambda: build_plan(good, target, RTX, profiles=[wrong]), "profile other: must name exactly the inputs images"),
        (lambda: build_plan(good, target, RTX, profiles=[shape]), "profile flat: refused: |builds no engine of it: "),
        (lambda: build_plan(_with_topk(tmp_path, 4000), target, RTX), "builds no engine of it: .*3840"),
        (lambda: build_plan(tmp_path / "absent.onnx", target, RTX), "no such file"),
        (lambda: build_plan(good, target, BuildOptions(optimization_level=9)), "--optimization-level 9: needs 0 to 5"),
    ]
    for build, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            build()
        assert "\n" not in str(caught.value)
    assert not target.parent.exists()


@needs_rtx
@needs_no_gpu
@pytest.mark.parametrize("option", ["version_compatible", "refit", "strip_weights"])
def test_options_that_need_a_gpu_say_so(tmp_path: Path, option: str) -> None:
    file = write_classifier_like(tmp_path / "m.onnx")
    flag = "--" + option.replace("_", "-")
    with pytest.raises(InputError, match=f"{flag}: needs a GPU even to build, and here is none"):
        build_plan(file, tmp_path / "m.plan", BuildOptions(library="tensorrt_rtx", **{option: True}))


def test_without_tensorrt_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs TensorRT or TensorRT-RTX, .*\[tensorrt\].*\[tensorrt-rtx\]"):
        import_trt()
    with pytest.raises(InputError, match="needs TensorRT-RTX, which is not installed"):
        import_trt("tensorrt_rtx")


def test_full_tensorrt_comes_first_and_a_broken_one_is_no_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def broken(name: str) -> None:
        asked.append(name)
        raise OSError("libnvinfer.so.11: cannot open\nshared object file")

    monkeypatch.setattr(binding, "find_spec", lambda name: object())
    monkeypatch.setattr(binding, "import_module", broken)
    with pytest.raises(
        InputError, match=r"TensorRT is installed but cannot be loaded \(libnvinfer.so.11: cannot open sh"
    ):
        import_trt()
    assert asked == ["tensorrt"]


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "resnet18"])
def test_every_model_builds_in_every_precision(tmp_path: Path, kind: str, precision: str) -> None:
    file = write_model(kind, precision, tmp_path)
    plan = build_plan(file, tmp_path / "m.plan", BuildOptions(library="tensorrt_rtx"))
    *_, record = read_plan(plan)
    assert len(record.profiles) == (6 if kind == "resnet50" else 5)
    print(f"{kind} {precision}: {record.seconds} s, {plan.stat().st_size / 1e6:.1f} MB")


def _with_topk(folder: Path, count: int) -> Path:
    import numpy as np
    from onnx import TensorProto

    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "flat"], ["row"], "row"),
        helper.make_node("TopK", ["row", "k"], ["logits", "places"], "best"),
    ]
    constants = {"flat": np.array([0, -1]), "k": np.array([count])}
    outputs = {"logits": (TensorProto.FLOAT, ["n", count])}
    inputs = {"images": (TensorProto.UINT8, ["n", 64, 64, 3])}
    return write_graph(folder / "topk.onnx", nodes, constants, inputs, outputs, CLASSIFICATION)
