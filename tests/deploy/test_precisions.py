"""Every kind of model in other flavours and precisions, through the command. One trace each, on tiny models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from backbones import build_backbone, save_weights
from backbones.convention import InputConvention
from backbones.errors import InputError
from deploy import exporting, load_runtime
from deploy.engines import building
from deploy.export_options import ExportOptions
from deploy.exporting import export, onnx_target
from deploy.gates import GATES, Verdict
from deploy.graph_check import ALLOWED
from deploy.precision.accuracy import Marks
from deploy.runtimes.exported_models import ClassifierRuntime, SegmenterRuntime
from deploy.verification import Check, Verification, together
from detection.building import save_detector
from detection.data.digits import compose_scene
from detection.segmentation.building import build_segmenter, load_segmenter, save_segmenter
from detection.segmentation.settings import SegmenterSettings
from detection.settings import InputSettings, PoolSettings
from tests.backbones.test_batch_norm import randomize_norms
from tests.deploy.stand_in_models import write_detector
from tests.deploy.test_export import taught
from tests.detection.builders import small_detector


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    network = randomize_norms(build_backbone("resnet20", 10))
    convention = InputConvention((90.0, 91.0, 92.0), (40.0, 41.0, 42.0), size=(32, 32))
    save_weights(network, folder / "model.safetensors", "resnet20", convention=convention, classes=tuple("0123456789"))
    return folder


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    torch.manual_seed(0)
    settings = SegmenterSettings("resnet20", ("background", "a", "b"), input=InputSettings(96, 128))
    model = randomize_norms(build_segmenter(settings))
    with torch.no_grad():
        model.head.classes.weight.mul_(20)
    save_segmenter(model, folder / "model.safetensors")
    return folder


def test_files_are_named_after_what_they_are() -> None:
    def name(flavour: str | None = None, **options: str) -> str:
        return onnx_target(ExportOptions(**{"model": "torchvision://resnet50", **options}), flavour).name  # type: ignore[arg-type]

    assert name() == name("ops") == "resnet50.onnx"
    assert name("portable") == "resnet50-portable.onnx"
    assert name("portable", precision="fp16") == "resnet50-portable-fp16.onnx"
    assert name(precision="int8", int8_style="cpu") == "resnet50-int8-cpu.onnx"
    assert name(output="a/engine.plan", format="tensorrt") == "engine.onnx"
    assert name("portable", output="a/model.plan", format="tensorrt") == "model-portable.onnx"
    assert name("portable", output="a/model-portable.plan", format="tensorrt") == "model-portable.onnx"


def test_a_detectors_flavour_is_the_one_that_is_fast_in_the_engines_of_the_format() -> None:
    assert ExportOptions().detector_flavour == "ops"
    assert ExportOptions(format="tensorrt").detector_flavour == "portable"
    assert ExportOptions(flavour="portable").detector_flavour == "portable"


def test_the_activation_map_makes_the_logit(classifier: Path) -> None:
    file = export(ExportOptions(model=str(classifier), quiet=True))
    runtime = load_runtime(file)
    assert isinstance(runtime, ClassifierRuntime)
    assert runtime.metadata.exported.outputs == ("logits", "activation_map")
    images = np.stack([compose_scene("val", number).image[:48, :64] for number in range(3)])
    found = runtime.session.run({"images": images})
    assert found["activation_map"].shape == (3, 12, 16)
    from backbones.classifier import load_classifier

    bias = load_classifier(classifier).network.fc.bias.detach().numpy()[found["logits"].argmax(1)]
    assert np.allclose(found["activation_map"].mean((1, 2)) + bias, found["logits"].max(1), atol=1e-3)


@pytest.mark.parametrize(("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_half_precision_is_in_the_file(classifier: Path, precision: str, kind: int) -> None:
    file = export(ExportOptions(model=str(classifier), precision=precision, quiet=True))
    model = onnx.load(file)
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {kinds[node.input[1]] for node in layers} == {kind}
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {TensorProto.FLOAT}
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["precision"] == precision
    assert about["verification"]["passed"]


def test_eight_bits_are_calibrated_and_judged_on_data(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.onnx"
    rng = np.random.default_rng(0)
    scenes = np.stack([compose_scene("val", number).image[:32, :32] for number in range(12)])
    np.savez(tmp_path / "d.npz", images=scenes, labels=rng.integers(0, 10, 12))
    options = ExportOptions(
        model=str(classifier), precision="int8", dataset=f"npz:{tmp_path / 'd.npz'}", split="all", output=str(file)
    )  # fmt: skip
    export(options)
    log = capsys.readouterr().err
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["accuracy"]["images"] == 12
    assert about["accuracy"]["loss"] <= GATES["int8"].loss
    assert about["quantisation"]["layers"] == 20
    assert (about["quantisation"]["pictures"], about["quantisation"]["judged_too"]) == (12, 12)
    assert "12 of the 12 pictures that judged the file calibrated it too" in log
    decided = about["decided_by"]
    assert (decided["gate"], decided["value"], decided["limit"]) == ("loss", about["accuracy"]["loss"], 0.5)
    assert f"the gate: {decided['summary']}" in log
    assert file.stat().st_size < 0.5 * 4 * 272_474  # fp32 parameters of ResNet-20


def test_fp8_is_written_but_not_verified(classifier: Path) -> None:
    file = export(ExportOptions(model=str(classifier), precision="fp8", quiet=True))
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["verification"]["passed"] is None
    assert "no engine here" in about["verification"]["summary"]
    assert about["decided_by"] is None


def test_a_segmenter_labels_pixels_in_every_engine(segmenter: Path) -> None:
    file = export(ExportOptions(model=str(segmenter), quiet=True))
    runtime = load_runtime(file)
    assert isinstance(runtime, SegmenterRuntime)
    about = json.loads(file.with_suffix(".json").read_text())
    assert {check["engine"].split()[0] for check in about["verification"]["checks"]} == {"OpenVINO", "ONNX"}
    picture = compose_scene("val", 0).image[:100, :90]
    (ours,), (theirs,) = load_segmenter(segmenter).predict([picture]), runtime.predict([picture])
    assert theirs.labels.dtype == np.uint8
    assert (ours.labels.numpy() == theirs.labels).mean() > 0.999
    assert len(np.unique(theirs.labels)) > 1


def test_a_detector_with_fewer_proposals_in_half_precision(tmp_path: Path) -> None:
    save_detector(taught("fpn"), tmp_path / "model.safetensors")
    file = export(ExportOptions(model=str(tmp_path), precision="fp16", proposals=20, quiet=True))
    assert file.name == "model-fp16.onnx"
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert {"NonMaxSuppression", "RoiAlign"} <= operators <= ALLOWED["ops"]
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["proposals"] == {"before_nms": 100, "after_nms": 20, "trained": [100, 30], "limit": 3840}
    assert about["flavour"] == "ops"
    runtime = load_runtime(file)
    scenes = [compose_scene("val", number).image for number in range(3)]
    together_, alone = runtime.predict(scenes, threshold=0), runtime.predict(scenes[1:2], threshold=0)
    assert np.allclose(together_[1].boxes, alone[0].boxes, atol=1e-2)


@pytest.mark.slow  # vgg16's convolutions
def test_the_papers_pooling_has_an_operator(tmp_path: Path) -> None:
    detector = randomize_norms(
        small_detector("vgg", output=replace(small_detector("vgg").settings.output, score_threshold=0.0))
    )
    save_detector(detector, tmp_path / "model.safetensors")
    file = export(ExportOptions(model=str(tmp_path), quiet=True))
    assert "MaxRoiPool" in {node.op_type for node in onnx.load(file).graph.node}


def test_adaptive_pooling_of_a_pyramid_is_not_exported(tmp_path: Path) -> None:
    save_detector(small_detector(pool=PoolSettings(5, 0)), tmp_path / "model.safetensors")
    for flavour in ("portable", "ops"):
        with pytest.raises(InputError, match="--exportable takes a fixed number"):
            export(ExportOptions(model=str(tmp_path), flavour=flavour, quiet=True))


def test_a_file_below_the_gate_is_removed(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exporting.GATES, "fp16", replace(GATES["fp16"], logits=1e-9))
    with pytest.raises(InputError, match="disagrees with the model and is removed: outputs differ by"):
        export(ExportOptions(model=str(classifier), precision="fp16", output=str(tmp_path / "m.onnx"), quiet=True))
    assert not list(tmp_path.iterdir())


def verified(engine: str, gate: str, value: float, limit: float) -> Verification:
    verdict = Verdict(gate, engine, value, limit, f"{engine}: {value}")
    return Verification((Check(engine, 1, (2, 2)),), verdict)


def test_every_engine_must_pass_and_the_worst_is_quoted() -> None:
    near, far, below = (
        verified(name, "agreement", value, 0.8) for name, value in zip("abc", (0.82, 0.95, 0.7), strict=True)
    )
    assert together([far, near]).passed
    assert together([far, near]).summary == together([near, far]).summary == "a: 0.82"
    assert not together([far, below, near]).passed
    assert together([far, below, verified("d", "agreement", 0.6, 0.8), near]).summary == "d: 0.6"
    apart = [verified(name, "logits", value, 0.2) for name, value in (("a", 0.05), ("b", 0.15), ("c", 0.01))]
    assert together(apart).verdict == apart[1].verdict
    assert together([]).passed is None
    lines = together([far, near]).table()
    assert len(lines) == 3
    assert lines[0].startswith("engine")


def test_the_verdict_that_decides() -> None:
    agreement = verified("a", "agreement", 0.99, 0.995)  # below the gate of fp32
    marks = Marks("b", "AP", 46.24, 46.47, 292)
    assert exporting._decide("fp32", agreement, marks) == agreement.verdict
    decided = exporting._decide("int8", agreement, marks)  # labelled data decides alone
    assert decided is not None
    assert (decided.gate, decided.passed, decided.engine, decided.limit) == ("loss", True, "b", GATES["int8"].loss)
    assert decided.value == pytest.approx(-0.23)
    assert decided.used == pytest.approx(-0.46)
    assert decided.summary == (
        "AP 46.47 in b against 46.24 of the trained model on 292 images: gains 0.23, 0.5 points of loss allowed"
    )
    assert exporting._decide("fp8", Verification((), None), None) is None


def test_engines_need_tensorrt(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs TensorRT: pip install"):
        export(ExportOptions(model=str(classifier), format="tensorrt", quiet=True))


def test_engines_are_built_from_the_portable_flavour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: True)
    with pytest.raises(InputError, match="--flavour ops: TensorRT engines are built from the portable flavour"):
        export(ExportOptions(model="run", format="tensorrt", flavour="ops", quiet=True))
    built: list[tuple[Path, Path]] = []
    monkeypatch.setattr(building, "build_plan", lambda source, plan, options: built.append((source, plan)))
    for model in ("runs/a/model-portable-fp16.onnx", "runs/a/model.onnx"):
        export(ExportOptions(model=model, format="tensorrt", quiet=True))
    assert [plan.name for _, plan in built] == ["model-fp16.plan", "model.plan"]


def test_no_engine_of_the_flavour_ops(tmp_path: Path) -> None:
    file = write_detector(tmp_path / "model.onnx", flavour="ops")
    with pytest.raises(InputError, match=r"model\.onnx: is of the flavour ops, .* --model RUN --flavour portable"):
        building.build_plan(file, tmp_path / "model.plan")


def test_an_exported_file_is_not_exported_again() -> None:
    with pytest.raises(InputError, match="is exported already; --format tensorrt builds"):
        export(ExportOptions(model="m.onnx", quiet=True))
