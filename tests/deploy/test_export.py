"""Exported files: dynamic, portable, equal to the trained model, and refused when they are not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from backbones import build_backbone, save_weights
from backbones.classifier import load_classifier
from backbones.convention import InputConvention
from backbones.errors import InputError
from deploy import exporting, load_runtime, verification
from deploy.export_options import ExportOptions
from deploy.exporting import export
from deploy.graph_check import ALLOWED, PORTABLE
from deploy.models import open_model
from deploy.runtimes.exported_models import ClassifierRuntime, DetectorRuntime
from detection.agreement import agreement
from detection.building import load_detector, save_detector
from detection.data.digits import compose_scene
from detection.detector import Detector
from detection.framing import FoundArrays
from detection.settings import MaskSettings, OutputSettings, PoolSettings
from tests.backbones.test_batch_norm import randomize_norms
from tests.detection.builders import small_detector


def taught(head: str) -> Detector:
    """A detector with batch norms far from their defaults, and scores wide enough for distinct detections."""
    detector = small_detector(head)
    randomize_norms(detector)
    generator = torch.Generator().manual_seed(3)
    detector.settings = replace(detector.settings, output=replace(detector.settings.output, nms_threshold=0.7))
    scene = torch.from_numpy(compose_scene("val", 0).image).permute(2, 0, 1)[None]
    with torch.no_grad():
        detector.eval()
        for layer, wanted in (
            (detector.rpn.objectness, 2.0), (detector.rpn.deltas, 0.3),
            (detector.predictor.classes, 1.5), (detector.predictor.deltas, 0.5),
        ):  # fmt: skip
            layer.weight.normal_(0, 1, generator=generator)
            kept: list[torch.Tensor] = []
            hook = layer.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output.flatten()))
            detector.detect(scene, torch.tensor([[128, 128]]))
            hook.remove()
            layer.weight.mul_(wanted / torch.cat(kept).std())
    return detector


@pytest.fixture(scope="module", params=["fpn", "c4"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a detector and its ONNX file."""
    folder = tmp_path_factory.mktemp(request.param)
    save_detector(taught(request.param), folder / "model.safetensors")
    assert export(ExportOptions(model=str(folder), quiet=True)) == folder / "model.onnx"
    return folder


@pytest.fixture(scope="module")
def portable(exported: Path) -> Path:
    """The same detector's file of the portable flavour."""
    return export(ExportOptions(model=str(exported), flavour="portable", quiet=True))


@pytest.fixture(scope="module")
def exported_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    network = randomize_norms(build_backbone("resnet20", 10))
    convention = InputConvention((90.0, 91.0, 92.0), (40.0, 41.0, 42.0), size=(32, 32))
    save_weights(network, folder / "model.safetensors", "resnet20", convention=convention, classes=tuple("0123456789"))
    export(ExportOptions(model=str(folder / "model.safetensors"), output=str(folder / "c.onnx"), quiet=True))
    return folder


def test_the_file_of_a_processor_has_onnxs_own_operators(exported: Path) -> None:
    operators = {node.op_type for node in onnx.load(exported / "model.onnx").graph.node}
    assert {"NonMaxSuppression", "RoiAlign"} <= operators <= ALLOWED["ops"]
    assert json.loads((exported / "model.json").read_text())["flavour"] == "ops"


def test_the_portable_graph_has_no_free_results_and_is_dynamic(portable: Path) -> None:
    assert portable.name == "model-portable.onnx"
    model = onnx.load(portable)
    operators = {node.op_type for node in model.graph.node}
    assert operators <= PORTABLE
    assert "BatchNormalization" not in operators
    assert json.loads(portable.with_suffix(".json").read_text())["flavour"] == "portable"
    images, sizes = model.graph.input
    assert [dim.dim_param != "" for dim in images.type.tensor_type.shape.dim] == [True, True, True, False]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert sizes.type.tensor_type.shape.dim[0].dim_param == images.type.tensor_type.shape.dim[0].dim_param
    assert [output.name for output in model.graph.output] == ["boxes", "scores", "labels", "exact"]


def test_a_mask_detector_exports_its_masks(tmp_path: Path) -> None:
    """With conv5 and the mask branch on each region: both stages of masks in one graph, refinement and voting too."""
    output = OutputSettings(score_threshold=0.0, max_detections=20, refine=True, vote=0.5)
    masks = MaskSettings(PoolSettings(size=8), convs=1, channels=16)
    detector = randomize_norms(small_detector(masks=masks, output=output, context=True))
    with torch.no_grad():
        detector.predictor.classes.weight.mul_(60)
        detector.masks.logits.weight.normal_(0, 0.5)
    save_detector(detector, tmp_path / "m.safetensors")
    export(ExportOptions(model=str(tmp_path / "m.safetensors"), quiet=True))
    runtime = load_runtime(tmp_path / "m.onnx")
    pictures = [compose_scene("val", number).image[:100] for number in range(4)]
    ours, theirs = detector.eval().predict(pictures, threshold=0), runtime.predict(pictures, threshold=0)
    same = agreement(ours, theirs)
    assert same.counted >= 100
    assert same.rate >= 0.99
    assert np.asarray(theirs[0].masks).shape == (len(theirs[0]), 100, 128)


def test_roi_pooling_has_no_portable_form(tmp_path: Path) -> None:
    save_detector(small_detector("vgg"), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="RoI pooling has no form that every engine has; train with --pool align"):
        export(ExportOptions(model=str(tmp_path / "m.safetensors"), flavour="portable", quiet=True))
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize("flavour", ["ops", "portable"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_file_gives_the_models_detections(exported: Path, portable: Path, batch: int, flavour: str) -> None:
    detector = load_detector(exported)
    runtime = load_runtime(portable if flavour == "portable" else exported / "model.onnx")
    scenes = [compose_scene("val", number).image for number in range(10)]
    rng = np.random.default_rng(batch)
    pictures = [scene[: rng.integers(60, 129), : rng.integers(60, 129)] for scene in scenes]
    detector.settings = replace(detector.settings, input=replace(detector.settings.input, shorter=96, longer=150))
    runtime.settings = detector.settings
    ours, theirs = detector.predict(pictures, batch, threshold=0), runtime.predict(pictures, batch, threshold=0)
    same = agreement(ours, theirs)
    assert same.counted >= 200
    assert same.rate >= 0.995
    assert isinstance(theirs[0].boxes, np.ndarray)


def test_the_sidecar_says_what_the_file_is(exported: Path) -> None:
    about = json.loads((exported / "model.json").read_text())
    assert about["sha256"] == hashlib.sha256((exported / "model.onnx").read_bytes()).hexdigest()
    assert about["verification"]["passed"]
    assert [check["batch"] for check in about["verification"]["checks"]] == 2 * [1, 2, 5, 1]
    assert about["task"] == "detection"
    assert about["classes"] == ["a", "b", "c"]


def test_a_stream_is_predicted_in_any_order(exported: Path) -> None:
    runtime = load_runtime(exported / "model.onnx", threads=1)
    scenes = [compose_scene("val", number).image for number in range(3)]
    pictures = [scenes[0], scenes[1][:, :70], scenes[2]]
    found = dict(runtime.predict_each(iter(pictures), batch_size=2))
    assert sorted(found) == [0, 1, 2]
    for a, b in zip(runtime.predict(pictures, threshold=0), (found[n] for n in range(3)), strict=True):
        assert np.allclose(a.boxes, b.boxes, atol=1e-3)


def test_unsettled_suppression_is_reported(exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logging.getLogger("shortcut").propagate = True
    runtime = load_runtime(exported / "model.onnx")
    run = runtime.session.run
    runtime.session.run = lambda inputs: {**run(inputs), "exact": np.array([False])}  # type: ignore[method-assign]
    runtime.predict([compose_scene("val", 0).image])
    assert "did not settle for 1 of 1 images" in caplog.text


def test_classifiers_are_exported_too(exported_classifier: Path) -> None:
    file = exported_classifier / "c.onnx"
    runtime, classifier = load_runtime(file), load_classifier(exported_classifier)
    assert isinstance(runtime, ClassifierRuntime)
    pictures = [compose_scene("val", number).image for number in range(5)]
    probabilities = np.asarray(runtime.predict(pictures, batch_size=2))
    assert probabilities.shape == (5, 10)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    images = np.stack([picture[:32, :48] for picture in pictures])  # a size that it was not traced with
    assert np.allclose(runtime.logits(images), classifier.logits(images), atol=1e-3)
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["architecture"] == {"backbone": "resnet20"}
    assert max(check["differences"]["logits"] for check in about["verification"]["checks"]) < 1e-5
    assert len({tuple(check["size"]) for check in about["verification"]["checks"]}) == 4


def test_a_mean_picture_fixes_the_size_but_not_the_batch(tmp_path: Path) -> None:
    network = randomize_norms(build_backbone("resnet20", 3))
    convention = InputConvention((0.0,) * 3, (1.0,) * 3, size=(32, 32))
    save_weights(
        network, tmp_path / "m.safetensors", "resnet20", convention=convention, mean_image=torch.rand(3, 32, 32) * 255,
        classes=("a", "b", "c"),
    )  # fmt: skip
    export(ExportOptions(model=str(tmp_path / "m.safetensors"), quiet=True))
    runtime = load_runtime(tmp_path / "m.onnx")
    assert runtime.logits(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 3)


def test_a_file_that_disagrees_is_removed(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = DetectorRuntime.detect_arrays

    def shifted(self: DetectorRuntime, images: np.ndarray, sizes: np.ndarray) -> FoundArrays:
        found = real(self, images, sizes)
        return replace(found, boxes=found.boxes + 5)

    monkeypatch.setattr(exporting, "trace", lambda *_: onnx.load(exported / "model.onnx"))
    monkeypatch.setattr(DetectorRuntime, "detect_arrays", shifted)
    with pytest.raises(InputError, match="disagrees with the model and is removed: 0 of"):
        export(ExportOptions(model=str(exported), output=str(tmp_path / "x.onnx"), quiet=True))
    assert not list(tmp_path.iterdir())


def test_nothing_to_compare_is_no_pass(exported: Path) -> None:
    detector, runtime = load_detector(exported), load_runtime(exported / "model.onnx")

    def empty(images: np.ndarray, sizes: np.ndarray) -> FoundArrays:
        return FoundArrays(np.zeros((len(images), 1, 4)), np.zeros((len(images), 1)), np.zeros((len(images), 1), int))

    detector.detect_arrays = runtime.detect_arrays = empty  # type: ignore[method-assign]
    with pytest.raises(InputError, match="nothing is detected"):
        verification.verify_detector(detector, runtime, [np.zeros((64, 64, 3), np.uint8)])


def test_verification_pictures(tmp_path: Path) -> None:
    pictures = exporting.verification_pictures(None)
    assert {picture.shape for picture in pictures} == {(128, 128, 3), (427, 640, 3)}
    with pytest.raises(InputError, match="no pictures there"):
        exporting.verification_pictures(str(tmp_path))
    from PIL import Image

    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    assert exporting.verification_pictures(str(tmp_path))[0].shape == (4, 5, 3)


def test_other_files_are_refused(exported: Path, exported_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_runtime(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="not an exported model"):
        load_runtime(exported / "model.safetensors")
    (tmp_path / "half.onnx").write_bytes((exported / "model.onnx").read_bytes()[:5000])
    for engine, words in (("openvino", "OpenVINO cannot read it"), ("onnxruntime", "ONNX Runtime cannot load it")):
        with pytest.raises(InputError, match=words):
            load_runtime(tmp_path / "half.onnx", engine=engine)
    model = onnx.load(exported / "model.onnx")
    model.metadata_props[0].value = json.dumps({"format": 99})
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(InputError, match="newer"):
        load_runtime(tmp_path / "new.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(InputError, match="no metadata"):
        load_runtime(tmp_path / "bare.onnx")
    with pytest.raises(InputError, match="holds a classifier"):
        open_model(exported_classifier / "c.onnx", tasks=("detection",))
    with pytest.raises(InputError, match="holds a detector"):
        open_model(exported / "model.onnx", tasks=("classification",))
    with pytest.raises(InputError, match="give --model"):
        export(ExportOptions(quiet=True))


def test_any_model_file_opens(exported: Path, exported_classifier: Path) -> None:
    assert isinstance(open_model(str(exported)), Detector)
    assert isinstance(open_model(str(exported / "model.onnx")), DetectorRuntime)
    assert isinstance(open_model(str(exported_classifier / "c.onnx")), ClassifierRuntime)
    assert open_model(str(exported_classifier)).classes == tuple("0123456789")


def test_an_onnx_file_runs_without_torch(exported: Path, exported_classifier: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy\nfrom deploy import load_runtime\n"
        f"d = load_runtime({str(exported / 'model.onnx')!r})\n"
        f"c = load_runtime({str(exported_classifier / 'c.onnx')!r})\n"
        "image = numpy.zeros((100, 90, 3), numpy.uint8)\n"
        "d.predict([image]); c.predict([image])\n"
        "assert not {'torch', 'torchvision', 'onnx'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
