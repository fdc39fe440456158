"""The command ``detection/predict.py``, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detection import predict
from detection.building import save_detector
from tests.detection.builders import small_detector


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that finds many things everywhere; by its own thresholds cats must be surer than others."""
    detector = small_detector(classes=("cat", "dog", "ox"), score_thresholds=(0.9, 0.1, 0.1))
    with torch.no_grad():
        detector.predictor.classes.weight.normal_(0, 1)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_detector(detector, path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, and one file that is none."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (60, 90)), ("sub/a.png", (128, 128)), ("grey.png", (50, 50))):
        image = Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8))
        (image.convert("L") if name == "grey.png" else image).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"nothing")
    return folder


def call(model: Path, *arguments: object) -> int:
    return predict.main(["--model", str(model), *map(str, arguments), "--device", "cpu"])


def test_pictures_are_drawn_and_listed(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(model, pictures, "--output", out, "--enlarge", 2) == 1
    captured = capsys.readouterr()
    assert captured.out.endswith(f" objects in 3 pictures: pictures, json in {out}\n")
    assert "broken.jpg: not a JPEG" in captured.err
    assert captured.err.endswith("1 of the inputs could not be read, or only in part; the others are done\n")
    names = {str(path.relative_to(out)) for path in out.rglob("*.*")}
    assert names == {"a.png", "sub/a.png", "grey.png", "detections.json", ".outputs.json"}
    assert Image.open(out / "a.png").size == (180, 120)
    listing = json.loads((out / "detections.json").read_text())
    assert listing["classes"] == ["cat", "dog", "ox"]
    assert [Path(entry["file"]).name for entry in listing["pictures"]] == ["a.jpg", "grey.png", "a.png"]
    found = [item for entry in listing["pictures"] for item in entry["detections"]]
    assert min(item["score"] for item in found if item["class"] == "cat") >= 0.9


def test_options_choose_what_is_found_and_saved(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (pictures / "broken.jpg").unlink()
    arguments = ("--output", out, "--save", "csv,pictures", "--format", "jpg", "--classes", "cat", "--quiet")
    assert call(model, f"{pictures}/**/*.png", *arguments, "--threshold", "0.2", "--max-detections", "40") == 0
    assert capsys.readouterr().out == ""
    written = {str(path.relative_to(out)) for path in out.rglob("*.*")}
    assert written == {"grey.jpg", "sub/a.jpg", "detections.csv", ".outputs.json"}
    rows = [line.split(",") for line in (out / "detections.csv").read_text().splitlines()[1:]]
    assert {row[1] for row in rows} == {"cat"}
    assert 0.2 <= min(float(row[2]) for row in rows) < 0.9


def test_videos_and_pictures_together(model: Path, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    from tests.detection.test_video import write_video

    write_video(tmp_path / "film.mp4", count=6)
    out = tmp_path / "out"
    assert call(model, tmp_path / "film.mp4", pictures / "a.jpg", "--output", out, "--every", 2, "--quiet") == 0
    listing = json.loads((out / "detections.json").read_text())["pictures"]
    assert [entry.get("frame") for entry in listing] == [None, 0, 2, 4]
    assert (out / "film.mp4").stat().st_size > 0


def test_when_nothing_can_be_read_nothing_is_written(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(model, pictures / "broken.jpg", "absent\n.jpg", "--output", out) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: absent .jpg: no such file\n" in captured.err
    assert captured.err.endswith("error: nothing could be read; nothing is written\n")
    assert not list(out.glob("*"))


def test_what_others_wrote_stays_and_what_this_command_wrote_is_replaced(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels by hand lie where YOLO's would go; then a second run over the results of a first."""
    labels, arguments = tmp_path / "set/labels/a.txt", ("--quiet", "--save", "yolo,pictures", "--output")
    labels.parent.mkdir(parents=True)
    labels.write_text("by hand")
    assert call(model, pictures / "a.jpg", *arguments, tmp_path / "set") == 1
    assert "a.txt: exists, and this command did not write it; choose another --output" in capsys.readouterr().err
    assert labels.read_text() == "by hand"
    assert {path.name for path in (tmp_path / "set").rglob("*")} == {"labels", "a.txt"}
    for _ in range(2):
        assert call(model, pictures / "a.jpg", *arguments, tmp_path / "out") == 0
    assert call(model, pictures / "a.jpg", *arguments, tmp_path / "set", "--overwrite") == 0
    assert labels.read_text() != "by hand"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to detect in"),
        (("IN", "--classes", "dgo"), "--classes: the model knows no 'dgo' (did you mean 'dog'?)"),
        (("IN", "--threshold", "2"), "threshold 2.0: scores lie between 0 and 1"),
        (("IN/a.jpg", "--output", "IN", "--format", "jpg"), "IN/a.jpg: is read by this command; choose another"),
        (("IN", "--save", "coco", "--coco-images", "absent.json"), "--coco-images absent.json: No such file"),
        (("IN", "--output", "IN/a.jpg"), "--output IN/a.jpg: is a file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert call(model, *(part.replace("IN", str(pictures)) for part in arguments), "--quiet") == 1
    error = capsys.readouterr().err
    assert message.replace("IN", str(pictures)) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--save", "jsno"), "--save: no 'jsno' (did you mean 'json'?); any of pictures, json, coco, csv, yolo"),
        (("--save", ","), "--save: name at least one"),
        (("--coco-images", "absent.json"), "--coco-images goes with --save coco"),
        (("--every", "0"), "--every 0: must be at least 1"),
        (("--max-detections", "0"), "--max-detections 0: must be at least 1"),
        (("--fps", "0"), "--fps 0.0: must be above 0"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        predict.main(["a.jpg", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_model_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main(["a.jpg", "--quiet"]) == 1
    assert "give --model" in capsys.readouterr().err
