"""Other projects' detectors as files and by name: found, checked, refused with one line, converted, predicting."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from backbones.errors import InputError
from backbones.weights.model_file import read_metadata
from deploy.models import open_model
from detection.building import load_detector
from detection.convert import main
from detection.settings import exportable_settings
from detection.training.options import TrainingOptions
from detection.training.run import train
from detection.weights import convert_detector, is_detector, published, read_source
from detection.weights.class_names import VOC
from detection.weights.contract import Facts
from detection.weights.published import DETECTRON2, SCHEMES, TORCHVISION, Published, find_published
from tests.detection.builders import small_detector
from tests.detection.torchvision_twin import build_theirs, freeze
from tests.detection.training_runs import few_scenes, small_run


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    theirs = build_theirs(18, 4, "faster", channels=8)
    freeze(theirs)
    return dict(theirs.state_dict())


@pytest.fixture(scope="module")
def file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "theirs.pth"
    torch.save(state, path)
    return path


def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, **changes: object) -> list[str]:
    """Let ``torchvision://fasterrcnn_resnet50_fpn`` be a file with this content; gives the addresses asked for."""
    checksum = hashlib.sha256(content).hexdigest()[:8]
    row = Published(f"https://example.org/net-{checksum}.pth", "sha256", checksum)
    monkeypatch.setitem(TORCHVISION, "fasterrcnn_resnet50_fpn", replace(row, **changes))  # type: ignore[arg-type]
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    asked: list[str] = []

    def download(address: str, target: Path) -> Path:
        asked.append(address)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    monkeypatch.setattr(published, "download", download)
    return asked


def test_names_are_those_of_the_publishers() -> None:
    assert find_published("torchvision://maskrcnn_resnet50_fpn") is TORCHVISION["maskrcnn_resnet50_fpn"]
    row = DETECTRON2["faster_rcnn_R_50_C4_1x"]
    folder = "detectron2://COCO-Detection/faster_rcnn_R_50_C4_1x"
    for name in ("detectron2://faster_rcnn_R_50_C4_1x", folder, f"{folder}.yaml"):
        assert find_published(name) is row
    assert find_published(f"{folder}/137257644/model_final_721ade.pkl") is row
    for name in ("detectron2://COCO-Detection", "detectron2://", f"{folder}/137257644/model_final_000000.pkl"):
        assert find_published(name) is None
    assert find_published("detectron2://PascalVOC-Detection/faster_rcnn_R_50_C4") == DETECTRON2["faster_rcnn_R_50_C4"]
    assert DETECTRON2["faster_rcnn_R_50_C4"].facts.classes is VOC
    for rows in SCHEMES.values():
        for row in rows.values():
            assert row.checksum in Path(row.address).name
            assert len(row.checksum) == (8 if row.algorithm == "sha256" else 6)


def test_torchvision_names_the_same_files() -> None:
    from torchvision.models import get_model_weights

    for name, row in TORCHVISION.items():
        assert get_model_weights(name).COCO_V1.url == row.address
        assert row.facts.norm_eps == (1e-5 if name.endswith("v2") else 0)


def test_a_name_is_fetched_once_and_checked(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = publish(monkeypatch, tmp_path, file.read_bytes())
    for _ in range(2):
        assert load_detector("torchvision://fasterrcnn_resnet50_fpn").classes == ("class 1", "class 2", "class 3")
    assert len(asked) == 1
    (stored,) = (tmp_path / "checkpoints").iterdir()
    stored.write_bytes(b"something else")
    with pytest.raises(InputError, match="its name promises sha256"):
        load_detector("torchvision://fasterrcnn_resnet50_fpn")


def test_without_a_network_one_line_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tmp_path, b"", address="file:///nowhere/net-00000000.pth")
    monkeypatch.undo()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    row = Published("file:///nowhere/model_final_721ade.pkl", "md5", "721ade")
    monkeypatch.setitem(DETECTRON2, "faster_rcnn_R_50_C4_1x", row)
    with pytest.raises(InputError, match=r"can't be fetched .* put the file at .*model_final_721ade.pkl"):
        load_detector("detectron2://faster_rcnn_R_50_C4_1x")


@pytest.mark.parametrize("name", ["torchvision://maskrcn_resnet50_fpn", "detectron2://mask_rcnn_R_50_C4_2x"])
def test_a_misspelt_name_gets_a_suggestion(name: str) -> None:
    with pytest.raises(InputError, match="did you mean 'mask"):
        load_detector(name)


def test_a_published_file_is_known_under_any_name(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its facts are told by its checksum; others may be given."""
    plain = convert_detector(read_source(file)).tensors["head.backbone.stem.bn.weight"]
    publish(monkeypatch, tmp_path, file.read_bytes(), facts=Facts(norm_eps=0.0))
    known = convert_detector(read_source(file)).tensors["head.backbone.stem.bn.weight"]
    assert not torch.equal(known, plain)
    assert torch.equal(
        convert_detector(read_source(file), norm_eps=1e-5).tensors["head.backbone.stem.bn.weight"], plain
    )


@pytest.mark.parametrize("form", ["pth", "safetensors", "checkpoint"])
def test_every_container_is_read(file: Path, state: dict[str, Tensor], form: str, tmp_path: Path) -> None:
    path = tmp_path / f"theirs.{'pth' if form == 'checkpoint' else form}"
    if form == "pth":
        path = file
    elif form == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, path)
    content = read_source(path)
    assert content.metadata is None
    assert is_detector(content)
    assert torch.equal(load_detector(path).rpn.objectness.weight, state["rpn.head.cls_logits.weight"])


def test_what_is_no_detector_is_told_apart(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    from detection.building import save_detector

    classifier = tmp_path / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), classifier)
    assert not is_detector(read_source(classifier))
    with pytest.raises(InputError, match=r"resnet18.pth: no detector that is known \(bn1.bias"):
        load_detector(classifier)
    save_detector(small_detector(), tmp_path / "ours.safetensors")
    content = read_source(tmp_path / "ours.safetensors")
    assert is_detector(content)
    assert content.metadata is not None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pth", None, "no such file"),
        ("absent.pkl", None, "no such file"),
        ("cut.pth", lambda file: file.read_bytes()[:5000], "not a complete torch file"),
        ("cut.pkl", lambda _: pickle.dumps({"model": {"a": np.zeros(9)}})[:-20], "not a complete pickle"),
        ("empty.pth", lambda _: b"", "torch file"),
        ("list.pkl", lambda _: pickle.dumps([1, 2]), "holds list"),
        ("text.safetensors", lambda _: b"hello", "not a complete safetensors"),
    ],
)
def test_damaged_files_get_one_line(
    file: Path, tmp_path: Path, name: str, content: Callable[[Path], bytes] | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content(file))
    with pytest.raises(InputError, match=message) as caught:
        load_detector(path)
    assert "\n" not in str(caught.value)


def test_a_converted_file_predicts(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "cells.safetensors"
    arguments = ["--weights", str(file), "--classes", "cell", "platelet", "other", "--output", str(output), "--quiet"]
    assert main(arguments) == 0
    assert "resnet18 fpn, 3 classes (cell, platelet, other)" in capsys.readouterr().out
    assert read_metadata(output).more["origin"] == str(file)
    direct, converted = load_detector(file), open_model(output)
    assert converted.classes == ("cell", "platelet", "other")
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    direct.settings = replace(direct.settings, output=replace(direct.settings.output, score_threshold=0.0))
    converted.settings = replace(direct.settings, classes=converted.classes)
    a, b = direct.predict(picture, threshold=0), converted.predict(picture, threshold=0)
    assert len(a) > 0
    assert np.array_equal(a.boxes, b.boxes)
    assert np.array_equal(a.scores, b.scores)


def test_training_starts_from_it(
    file: Path, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--weights`` and ``--init-from`` alike: its design, and all weights but those of classes it does not know."""
    monkeypatch.setattr("detection.data.digits.read_digits", few_scenes)
    own = small_run(iterations=1, evaluate_every=1, learning_rate=1e-9, output=str(tmp_path / "run"))
    own = {name: value for name, value in own.items() if name not in ("backbone", "channels", "vector")}
    detector = load_detector(train(TrainingOptions(**{**own, "weights": str(file)})))
    settings = detector.settings
    assert (settings.backbone, settings.channels, settings.vector) == ("resnet18", 8, 1024)
    assert (settings.pool.aligned, settings.anchors.whole_strides, settings.classes) == (False, True, ("a", "b", "c"))
    assert torch.allclose(detector.rpn.deltas.weight, state["rpn.head.bbox_pred.weight"], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --weights"),
        (["--weights", "x.pth", "--output", "x.onnx"], "--output x.onnx: give a name that ends in .safetensors"),
        (["--weights", "{file}", "--classes", "a", "--output", "{output}"], "tells 3 classes apart, and 1 names"),
    ],
)
def test_conversion_fails_with_one_line(
    file: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "x.safetensors"
    assert main([argument.format(file=file, output=output) for argument in arguments]) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_exportable_settings_have_fixed_samples_and_padding() -> None:
    from detection.settings import InputSettings, MaskSettings, PoolSettings

    settings = small_detector().settings
    assert exportable_settings(settings) == settings
    adaptive = PoolSettings(14, sampling_ratio=0)
    other = replace(settings, pool=adaptive, masks=MaskSettings(adaptive), input=InputSettings(multiple=1))
    changed = exportable_settings(other)
    assert (changed.pool, changed.input.multiple) == (PoolSettings(14, sampling_ratio=2), 32)
    assert changed.masks == MaskSettings(PoolSettings(14, sampling_ratio=2))
