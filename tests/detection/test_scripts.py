"""The commands, as a user types them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from backbones import build_backbone, save_weights
from backbones import evaluate as classify
from backbones import train as pretrain
from backbones.analyze import main as analyze
from backbones.convention import InputConvention
from detection import check, evaluate, write_digits
from detection import train as train_script
from detection.building import save_detector
from tests.detection.builders import small_detector, write_voc_folder

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that finds many things everywhere."""
    detector = small_detector(classes=("cat", "dog", "ox"))
    with torch.no_grad():
        detector.predictor.classes.weight.normal_(0, 1)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_detector(detector, path)
    return path


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "voc"
    return write_voc_folder(folder, {f"p{n}": [("cat", (5, 5, 40, 45)), ("dog", (20, 10, 60, 60))] for n in range(12)})


def test_training_as_typed(run_script: Run, photographs: Path, tmp_path: Path) -> None:
    command = (
        "detection/train.py", "--dataset", f"voc:{photographs}", "--backbone", "resnet20", "--weights", "none",
        "--recipe", "digits", "--iterations", "2", "--batch-size", "2", "--output", "out", "--device", "cpu",
    )  # fmt: skip
    run = run_script(*command, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "learning rate: 0.0075 (0.06 for 16 images, scaled to 2); 2 iterations, 4 images" in run.stderr
    assert (tmp_path / "out" / "report.html").exists()
    again = run_script(*command, cwd=tmp_path)
    assert (again.returncode, again.stderr.splitlines()[-1]) == (
        1, "error: out: holds a run; go on with it by --resume, or choose another --output",
    )  # fmt: skip


def test_training_starts_among_no_files_of_others(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "holiday/metrics.json"
    mine.parent.mkdir()
    mine.write_text("mine")
    command = ["--dataset", f"voc:{photographs}", "--backbone", "resnet20", "--weights", "none", "--recipe", "digits"]
    assert train_script.main([*command, "--output", str(mine.parent), "--device", "cpu", "--quiet"]) == 1
    assert "holiday: holds metrics.json, and is no run; choose a new or an empty folder" in capsys.readouterr().err
    assert [path.read_text() for path in mine.parent.iterdir()] == ["mine"]


def test_evaluation_prints_and_writes(
    model: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"{name}.json" for name in ("output", "detections")}
    arguments = ["--model", model, "--dataset", f"voc:{photographs}", "--quiet", "--device", "cpu"]
    for name, file in files.items():
        arguments += [f"--{name}", file]
    assert evaluate.main([*map(str, arguments), "--report", str(tmp_path / "r.html")]) == 0
    text = capsys.readouterr().out
    assert "AP50 " in text
    assert "AP_large       no ground truth" in text
    metrics = json.loads(files["output"].read_text())
    assert set(metrics["per_class"]) == {"cat", "dog", "ox"}
    results = json.loads(files["detections"].read_text())
    assert {"image_id", "category_id", "bbox", "score"} == set(results[0])
    assert "Worst pictures" in (tmp_path / "r.html").read_text()


def test_evaluation_refuses_other_classes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_voc_folder(tmp_path / "v", {f"p{n}": [("zebra", (5, 5, 40, 45))] for n in range(12)})
    assert evaluate.main(["--model", str(model), "--dataset", f"voc:{folder}", "--quiet"]) == 1
    assert "the model does not know: zebra" in capsys.readouterr().err
    assert evaluate.main(["--quiet"]) == 1
    assert "give --model" in capsys.readouterr().err


def test_the_check_lists_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_voc_folder(tmp_path / "v", {f"p{n}": [("cat", (5, 5, 40, 45))] for n in range(12)})
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(f"p{n}" for n in range(12)))
    assert check.main(["--dataset", f"voc:{folder}", "--split", "train"]) == 0
    assert "left out: 0 objects; to be mended: 0 files; 0 likely mistakes" in capsys.readouterr().out
    (folder / "JPEGImages/p1.png").write_bytes(b"nothing")
    text = (folder / "Annotations/p2.xml").read_text()
    (folder / "Annotations/p2.xml").write_text(text.replace("<xmax>40", "<xmax>5"))
    assert check.main(["--dataset", f"voc:{folder}", "--split", "train"]) == 1
    output = capsys.readouterr()
    assert "file  p1.png: not a JPEG" in output.out
    assert "box  Annotations/p2.xml:1: cat: box (5, 5, 5, 45) has no area" in output.out
    assert "left out: 1 object; to be mended: 1 file; 0 likely mistakes" in output.out
    assert "must be mended" in output.err


def test_scenes_are_written_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write_digits.main(["--output", str(tmp_path / "d"), "--limit", "2"]) == 0
    assert {path.name for path in (tmp_path / "d").iterdir()} == {"coco", "voc", "yolo", ".outputs.json"}
    assert len(list((tmp_path / "d/coco/test").iterdir())) == 2
    own = tmp_path / "data/coco/annotations/instances_train.json"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert write_digits.main(["--output", str(tmp_path / "data"), "--limit", "2"]) == 1
    assert "data/coco: exists, and this command did not write it" in capsys.readouterr().err
    assert own.read_text() == "mine"
    assert not (tmp_path / "data/voc").exists()


def test_complexity_prints_table_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(["complexity", "--arch", "resnet20", "resnet18"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split() == ["resnet20", "269,722", "40,551,040"]
    assert rows[2].split() == ["resnet18", "11,689,512", "1,814,073,344", "1.8e9"]
    assert analyze(["complexity", "--arch", "resnet20", "--cross-check"]) == 0
    assert "40,931,968" in capsys.readouterr().out


def test_classifiers_are_trained_and_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    arguments = ["--recipe", "quick", "--iterations", "1", "--batch-size", "4", "--output", str(run), "--quiet"]
    assert pretrain.main([*arguments, "--device", "cpu", "--no-tensorboard"]) == 0
    output = tmp_path / "e.json"
    assert classify.main(["--model", str(run), "--output", str(output), "--quiet"]) == 0
    assert "180 images" in capsys.readouterr().out
    assert set(json.loads(output.read_text())) >= {"top1_error", "top5_error", "images", "protocol"}


def test_classifiers_are_scored_on_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b", "a"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (40, 50), (200, 10, 10)).save(tmp_path / "data" / name / "x.png")
    network = build_backbone("resnet20", 2)
    convention = InputConvention((0.0,) * 3, (1.0,) * 3, size=(32, 32))
    save_weights(network, tmp_path / "c.safetensors", "resnet20", convention=convention, classes=("a", "b"))
    model = ["--model", str(tmp_path / "c.safetensors"), "--quiet"]
    assert classify.main([*model, "--dataset", f"folder:{tmp_path / 'data'}"]) == 0
    assert "top-1 error 50.00 %" in capsys.readouterr().out
    assert classify.main([*model, "--dataset", "imagenett"]) == 1
    assert "did you mean 'imagenet'" in capsys.readouterr().err
    assert classify.main(["--quiet"]) == 1


def test_misspelt_flags_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for main in (train_script.main, pretrain.main):
        with pytest.raises(SystemExit) as stop:
            main(["--outptu", "x"])
        assert stop.value.code == 2
        assert "did you mean '--output'" in capsys.readouterr().err
