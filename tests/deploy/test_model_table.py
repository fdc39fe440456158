"""Every kind of model file with every command that takes one: it works, or one right line refuses it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from PIL import Image

from backbones import analyze, build_backbone, prepare, save_weights
from backbones import evaluate as evaluate_classifiers
from backbones.classifier import describe as describe_classifier
from backbones.classifier import load_classifier
from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.metadata import FORMAT, ModelMetadata
from backbones.running.training_state import TrainingState
from demo.model.finders import open_finder
from deploy import batch, benchmark, export, repository
from detection import evaluate, predict
from detection.building import describe as describe_detector
from detection.building import save_detector
from detection.segmentation.building import describe as describe_segmenter
from detection.segmentation.building import save_segmenter
from tests.deploy import stand_in_models
from tests.detection.builders import small_detector
from tests.detection.segmentation.builders import small_segmenter
from tests.detection.torchvision_twin import build_theirs, freeze

OPENED = "the model is opened, and stands before the long work"


@dataclass(frozen=True)
class Place:
    """Where commands find their data and leave their results."""

    folder: Path

    @property
    def boxes(self) -> str:
        return f"coco:{self.folder / 'coco'}"

    @property
    def named(self) -> str:
        return f"folder:{self.folder / 'named'}"

    @property
    def picture(self) -> str:
        return str(self.folder / "coco/train/a.png")


def write_place(folder: Path) -> Place:
    """Two pictures with a masked object each, for detection and segmentation; one of each class, in folders."""
    annotations: dict[str, Any] = {
        "images": [], "annotations": [],
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(stand_in_models.CLASSES)],
    }  # fmt: skip
    for split in ("train", "val"):
        (folder / "coco" / split).mkdir(parents=True)
        for number, name in enumerate(("a.png", "b.png"), start=1):
            Image.new("RGB", (64, 48), (40 * number, 90, 10)).save(folder / "coco" / split / name)
    for number, name in enumerate(("a.png", "b.png"), start=1):
        annotations["images"].append({"id": number, "file_name": name, "width": 64, "height": 48})
        annotations["annotations"].append({
            "id": number, "image_id": number, "category_id": number, "bbox": [4, 4, 30, 30], "area": 900, "iscrowd": 0,
            "segmentation": [[4, 4, 34, 4, 34, 34, 4, 34]],
        })  # fmt: skip
    for split in ("train", "val"):
        (folder / "coco" / split / "_annotations.coco.json").write_text(json.dumps(annotations))
    for name in stand_in_models.CLASSES:
        (folder / "named" / name).mkdir(parents=True)
        Image.new("RGB", (40, 36), (90, 10, 60)).save(folder / "named" / name / "a.png")
    return Place(folder)


def write_models(folder: Path) -> dict[str, Path]:
    """A file of each kind."""
    network = build_backbone("resnet20", len(stand_in_models.CLASSES))
    convention = InputConvention((0.0,) * 3, (1.0,) * 3, size=(32, 32))
    files = {name: folder / name for name in ("classifier", "detector", "segmenter")}
    save_weights(
        network,
        files["classifier"] / "model.safetensors",
        "resnet20",
        convention=convention,
        classes=stand_in_models.CLASSES,
    )
    classifier = load_classifier(files["classifier"])
    detector, segmenter = (
        small_detector(classes=stand_in_models.CLASSES),
        small_segmenter(classes=("background", *stand_in_models.CLASSES)),
    )
    save_detector(detector, files["detector"] / "model.safetensors")
    save_segmenter(segmenter, files["segmenter"] / "model.safetensors")
    models: tuple[tuple[str, Any, ModelMetadata], ...] = (
        ("classifier", classifier, describe_classifier(classifier)),
        ("detector", detector, describe_detector(detector)),
        ("segmenter", segmenter, describe_segmenter(segmenter)),
    )  # fmt: skip
    for name, model, about in models:
        files[f"{name}'s last.pt"] = folder / f"{name}-run/last.pt"
        save_state(model, about, files[f"{name}'s last.pt"])
    files["exported classifier"] = stand_in_models.write_classifier(folder / "c/model.onnx")
    files["exported detector"] = stand_in_models.write_detector(folder / "d/model.onnx")
    files["exported segmenter"] = stand_in_models.write_segmenter(folder / "s/model.onnx")
    files["another project's classifier"] = folder / "theirs-c.pth"
    torch.save(torchvision_resnet(18, len(stand_in_models.CLASSES)), files["another project's classifier"])
    files["another project's detector"] = folder / "theirs-d.pth"
    theirs = build_theirs(18, 4, "faster", channels=8)
    freeze(theirs)
    torch.save(theirs.state_dict(), files["another project's detector"])
    files["nobody's"] = folder / "theirs.pth"
    torch.save({"nobody": torch.zeros(3)}, files["nobody's"])
    files["absent"] = folder / "absent.safetensors"
    files["damaged"] = folder / "damaged.safetensors"
    whole = (files["detector"] / "model.safetensors").read_bytes()
    files["damaged"].write_bytes(whole[: len(whole) // 2])
    return files


def torchvision_resnet(depth: int, classes: int) -> dict[str, Any]:
    import torchvision

    return dict(getattr(torchvision.models, f"resnet{depth}")(num_classes=classes).state_dict())


def save_state(model: Any, about: ModelMetadata, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.SGD([next(model.parameters())], 0.1)
    TrainingState(model, optimizer, torch.amp.GradScaler("cpu", enabled=False), about=about).save(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return write_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def no_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing, Ray and served processes are other tests' matter: here the model has been opened when they begin."""

    def stop(*_: Any, **__: Any) -> Any:
        raise InputError(OPENED)

    monkeypatch.setattr("deploy.exporting.verification_pictures", stop)
    monkeypatch.setattr("deploy.bulk.running.check_installed", lambda *_: None)
    monkeypatch.setattr("deploy.bulk.running._run", stop)


Command = Callable[[str, Place, Path], int]


def pages(task: str) -> Command:
    def opened(model: str, place: Place, output: Path) -> int:
        try:
            open_finder(model, "it", task)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0

    return opened


COMMANDS: dict[str, Command] = {
    "backbones/evaluate.py": lambda model, place, output: evaluate_classifiers.main(
        ["--model", model, "--dataset", place.named, "--quiet"]
    ),
    "backbones/analyze.py responses": lambda model, place, output: analyze.main(
        ["responses", "--model", model, "--dataset", place.named, "--split", "val", "--output", str(output / "r.png"),
         "--quiet"]
    ),
    "backbones/prepare.py statistics": lambda model, place, output: prepare.main(
        ["statistics", "--model", model, "--dataset", place.named, "--split", "val", "--no-exact", "--output",
         str(output / "n.safetensors"), "--quiet"]
    ),
    "detection/evaluate.py": lambda model, place, output: evaluate.main(
        ["--model", model, "--dataset", place.boxes, "--split", "val", "--quiet"]
    ),
    "detection/predict.py": lambda model, place, output: predict.main(
        ["--model", model, place.picture, "--output", str(output / "found"), "--quiet"]
    ),
    "deploy/export.py": lambda model, place, output: export.main(
        ["--model", model, "--output", str(output / "model.onnx"), "--quiet"]
    ),
    "deploy/benchmark.py": lambda model, place, output: benchmark.main(
        ["--model", model, "--batch", "1", "--size", "32", "32", "--rounds", "1", "--seconds", "0.01", "--no-memory",
         "--quiet"]
    ),
    "deploy/batch.py": lambda model, place, output: batch.main(
        ["--model", model, place.picture, "--output", str(output / "rows"), "--quiet"]
    ),
    "deploy/repository.py": lambda model, place, output: repository.main(
        ["--model", model, "--output", str(output / "served"), "--quiet"]
    ),
    "the page, detect": pages("detection"),
    "the page, classify": pages("classification"),
    "the page, segment": pages("segmentation"),
}  # fmt: skip

WORKS = {
    "classifier": {"backbones/evaluate.py", "backbones/analyze.py responses", "backbones/prepare.py statistics",
                   "deploy/export.py", "deploy/benchmark.py", "the page, classify"},
    "detector": {"detection/evaluate.py", "detection/predict.py", "deploy/export.py", "deploy/benchmark.py",
                 "deploy/batch.py", "the page, detect"},
    "segmenter": {"detection/evaluate.py", "detection/predict.py", "deploy/export.py", "deploy/benchmark.py",
                  "the page, segment"},
    "exported classifier": {"backbones/evaluate.py", "deploy/benchmark.py", "deploy/repository.py",
                            "the page, classify"},
    "exported detector": {"detection/evaluate.py", "detection/predict.py", "deploy/benchmark.py", "deploy/batch.py",
                          "deploy/repository.py", "the page, detect"},
    "exported segmenter": {"detection/evaluate.py", "detection/predict.py", "deploy/benchmark.py",
                           "deploy/repository.py", "the page, segment"},
}  # fmt: skip
CLASSES_DIFFER = {
    ("another project's detector", "detection/evaluate.py"): r"classes that the model does not know: cat",
}
"""Files of others say no names of classes, and the data has some."""
ONLY_TRAINED = ("backbones/analyze.py responses", "backbones/prepare.py statistics", "deploy/export.py")
NOT_EXPORTED = r"not an exported model \(.onnx, .plan\); make one with deploy/export.py|holds no model.onnx; make one"
ALREADY = r"is exported already; "


def refusal(kind: str, command: str) -> str:
    """What the line says that refuses a model; a pattern."""
    if kind == "absent":
        return r"absent.safetensors: (no such file|not an exported model)"
    if kind == "damaged":
        return r"damaged.safetensors: not a complete safetensors file|not an exported model"
    if (kind, command) in CLASSES_DIFFER:
        return CLASSES_DIFFER[kind, command]
    if kind == "nobody's":
        return r"theirs.pth: the parameter names \(nobody\) are no known classifier's|not an exported model"
    if command == "deploy/repository.py":
        return NOT_EXPORTED
    if kind.startswith("exported") and command in ONLY_TRAINED:
        return ALREADY
    if kind == "another project's detector" and command in ONLY_TRAINED[:2]:
        return r"are no known classifier's"
    called = {"c": "a classifier", "d": "a detector", "s": "a segmenter"}[
        kind.removeprefix("exported ").removeprefix("another project's ")[0]
    ]
    return rf"holds {called}, not a"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_works_or_is_refused_by_one_right_line(
    command: str, models: dict[str, Path], place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: list[str] = []
    for kind, model in models.items():
        output = tmp_path / re.sub(r"\W", "-", kind)
        output.mkdir()
        code = COMMANDS[command](str(model), place, output)
        said = capsys.readouterr().err.strip().splitlines()
        errors = [line for line in said if line.startswith("error: ")]
        works = command in WORKS.get(kind.removesuffix("'s last.pt").removeprefix("another project's "), set())
        if (kind, command) in CLASSES_DIFFER:
            works = False
        opened = code == 0 or errors == [f"error: {OPENED}"]
        if works != opened or (not works and (code != 1 or len(errors) != 1)):
            wrong.append(f"{kind}: works is {works}, exit {code}, said {said}")
        elif not works and not re.search(refusal(kind, command), errors[0]):
            wrong.append(f"{kind}: refused by {errors[0]}")
    assert not wrong, "\n".join(wrong)


def test_a_next_version_is_refused_by_every_command_with_the_same_line(
    models: dict[str, Path], place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in newer_files(models, tmp_path):
        for command, run in COMMANDS.items():
            output = tmp_path / f"{file.name}-{re.sub(r'[^a-z]', '', command)}"
            output.mkdir()
            assert run(str(file), place, output) == 1, (file, command)
            (said,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
            if command == "deploy/repository.py" and file.suffix != ".onnx":
                assert re.search(NOT_EXPORTED, said)
            elif file.suffix == ".onnx" and re.search(ALREADY, said):
                assert command in (
                    "backbones/analyze.py responses",
                    "backbones/prepare.py statistics",
                    "deploy/export.py",
                )
            else:
                assert said == f"error: {file}: format {FORMAT + 1} is newer than this version reads ({FORMAT}); update"


def newer_files(models: dict[str, Path], folder: Path) -> list[Path]:
    """Weights, a training state and an exported file of the next version."""
    from safetensors.torch import load_file, save_file

    text = json.dumps({"format": FORMAT + 1, "purpose": "unknown"})
    tensors = load_file(models["detector"] / "model.safetensors")
    save_file(tensors, folder / "newer.safetensors", metadata={"shortcut": text})
    state = torch.load(models["detector's last.pt"], weights_only=True)
    torch.save({**state, "about": json.loads(text)}, folder / "newer.pt")
    model = onnx.load(models["exported detector"])
    model.metadata_props[0].value = text
    onnx.save(model, folder / "newer.onnx")
    return [folder / "newer.safetensors", folder / "newer.pt", folder / "newer.onnx"]


def test_a_training_state_predicts_as_the_weights_that_its_run_is_scored_by(tmp_path: Path) -> None:
    from backbones.running.training_state import WeightAverage
    from detection.building import load_detector

    detector = small_detector()
    average = WeightAverage(detector, 0.9)
    trained = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    with torch.no_grad():
        detector.predictor.classes.weight += 1.0
    optimizer = torch.optim.SGD([next(detector.parameters())], 0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainingState(detector, optimizer, scaler, average=average, about=describe_detector(detector))
    state.save(tmp_path / "last.pt")
    loaded = load_detector(tmp_path / "last.pt").state_dict()
    assert torch.equal(loaded["predictor.classes.weight"], trained["predictor.classes.weight"])


def test_states_of_older_versions_open_or_say_what_does(models: dict[str, Path], tmp_path: Path) -> None:
    from detection.building import load_detector

    detector = small_detector()
    save_state(detector, describe_detector(detector), tmp_path / "last.pt")
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save({**state, "about": detector.settings.to_dict()}, tmp_path / "old.pt")  # the settings alone
    assert load_detector(tmp_path / "old.pt").classes == detector.classes
    torch.save({**state, "about": {}}, tmp_path / "older.pt")
    with pytest.raises(InputError, match=r"an older version, which does not say .* no .*model.safetensors lies beside"):
        load_detector(tmp_path / "older.pt")
    classifier = load_classifier(models["classifier"])
    save_state(classifier, describe_classifier(classifier), tmp_path / "run/last.pt")
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    torch.save({**state, "about": {}}, tmp_path / "run/last.pt")
    shutil.copyfile(models["classifier"] / "model.safetensors", tmp_path / "run/model.safetensors")
    opened = load_classifier(tmp_path / "run/last.pt")
    assert (opened.backbone, opened.classes) == (classifier.backbone, classifier.classes)
