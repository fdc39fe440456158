"""``detection/evaluate.py``, as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from detection import evaluate
from detection.building import load_detector, save_detector
from detection.data.digit_files import write_coco
from detection.data.digits import CLASSES
from detection.settings import MaskSettings, PoolSettings
from tests.detection.builders import small_detector, write_voc_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "coco"
    write_coco(folder, limit=3)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of digits and their masks that finds many things everywhere."""
    masks = MaskSettings(pool=PoolSettings(size=6), convs=1, channels=8)
    detector = small_detector(classes=CLASSES, masks=masks)
    with torch.no_grad():
        detector.predictor.classes.weight.normal_(0, 1)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_detector(detector, path)
    return path


def run(*arguments: object) -> int:
    return evaluate.main([*map(str, arguments), "--device", "cpu"])


def test_masks_are_scored_and_results_score_the_same(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = ("--dataset", f"coco:{data}", "--split", "val")
    ours, file, theirs = tmp_path / "ours.json", tmp_path / "results.json", tmp_path / "theirs.json"
    assert run("--model", model, *on, "--output", ours, "--detections", file, "--report", tmp_path / "r.html") == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == ["boxes", "masks"]
    assert max(map(len, text.splitlines())) <= 100
    assert "What would be gained of AP50" in text
    entries = json.loads(file.read_text())
    assert set(entries[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}
    assert entries[0]["segmentation"]["size"] == [128, 128]
    assert run("--results", file, *on, "--output", theirs, "--quiet") == 0
    first, second = json.loads(ours.read_text()), json.loads(theirs.read_text())
    assert {"model": str(model), "results": str(file)} == {
        "model": first.pop("model"),
        "results": second.pop("results"),
    }
    numbers = [name for name in first if isinstance(first[name], float)]
    assert "mask_AP" in numbers
    assert [first[name] for name in numbers] == pytest.approx([second[name] for name in numbers])
    assert first["errors"]["background"]["number"] == second["errors"]["background"]["number"] > 0
    assert "mask_AP" in capsys.readouterr().out
    assert run("--model", model, *on, "--no-masks", "--quiet") == 0
    assert "mask" not in capsys.readouterr().out


def test_a_perfect_results_file_scores_one(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = json.loads((data / "annotations/instances_val.json").read_text())["annotations"]
    entries = [
        {**{k: item[k] for k in ("image_id", "category_id", "bbox", "segmentation")}, "score": 1} for item in truth
    ]
    (tmp_path / "r.json").write_text(json.dumps(entries))
    assert run("--results", tmp_path / "r.json", "--dataset", f"coco:{data}", "--split", "val", "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"AP             1.0000", "mask_AP        1.0000", "VOC_mAP        1.0000"} <= set(lines)


def test_data_without_masks_is_scored_by_boxes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on = f"voc:{write_voc_folder(tmp_path / 'v', {f'p{n}': [('7', (5, 5, 40, 45))] for n in range(4)})}"
    assert run("--model", model, "--dataset", on) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[0].split() == ["boxes"]
    assert "masks are not scored" in output.err
    assert run("--model", model, "--dataset", on, "--masks") == 1


def test_thresholds_are_stored(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.safetensors"
    shutil.copy(model, own)
    output = tmp_path / "metrics.json"
    on = ("--dataset", f"coco:{data}", "--split", "val")
    assert run("--model", own, *on, "--quiet", "--store-thresholds", "--output", output) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"thresholds of 10 classes stored in {own}"
    stored = load_detector(own).settings.score_thresholds
    classes = json.loads(output.read_text())["classes"]
    assert stored == tuple(classes[name]["threshold"] for name in CLASSES)
    assert load_detector(model).settings.score_thresholds == ()


def test_switches_reach_the_detector(model: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    on = ("--dataset", f"coco:{data}", "--split", "val", "--quiet")
    assert run("--model", model, *on, "--max-detections", 2, "--test-shorter", 64, "--detections", file) == 0
    counts = [entry["image_id"] for entry in json.loads(file.read_text())]
    assert max(counts.count(image) for image in counts) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "a", "--results", "b.json"], "give --model"),
        (["--results", "b.json", "--store-thresholds"], "--store-thresholds: only with --model"),
        (["--results", "b.json"], "b.json: not JSON"),
        (["--model", "a.onnx", "--refine", "--vote", "0.5"], "an exported model is fixed, so it cannot take --refine"),
        (["--model", "a.onnx", "--store-thresholds"], "--store-thresholds: only with one trained model"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--quiet") == 1
    assert message in capsys.readouterr().err


def test_a_second_run_replaces_what_the_first_wrote_and_nothing_else(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = ("--model", model, "--dataset", f"coco:{data}", "--split", "val", "--quiet")
    files = ("--output", tmp_path / "m.json", "--report", tmp_path / "r.html")
    for _ in range(2):
        assert run(*on, *files) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"m.json", "r.html"}  # the plots are in the report
    capsys.readouterr()
    kept = (tmp_path / "m.json").read_bytes()
    for arguments, message in (
        (("--output", tmp_path / "a.json", "--detections", tmp_path / "a.json"), "--output writes there too"),
        (("--report", tmp_path / "m.json"), "give a name that ends in .html"),
        (("--detections", tmp_path / "m.json"), "exists, and this command did not write it"),
        (("--output", data / "annotations/instances_val.json", "--overwrite"), "lies in the data that is read"),
    ):
        assert run(*on, *arguments) == 1
        assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"m.json", "r.html"}
    assert (tmp_path / "m.json").read_bytes() == kept
