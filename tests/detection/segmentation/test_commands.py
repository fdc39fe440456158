"""Segmenters in the commands: evaluated and used by file, trained and exported alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.weights.model_file import read_metadata
from detection import evaluate, predict
from detection.segmentation.building import load_segmenter, save_segmenter
from detection.segmentation.drawing import palette
from detection.segmentation.label_images import VOC_LABELS
from tests.detection.segmentation.builders import CLASSES, scene, small_segmenter, write_label_folder


def test_files_become_label_images_and_coloured_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_segmenter(small_segmenter(classes=VOC_LABELS), tmp_path / "s.safetensors")
    (tmp_path / "in/sub").mkdir(parents=True)
    for name, size in (("sub/a.png", (60, 90)), ("b.png", (64, 64))):
        Image.fromarray(scene(1, size)[0]).save(tmp_path / "in" / name)
    (tmp_path / "in/broken.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    assert predict.main(["--model", str(tmp_path / "s.safetensors"), str(tmp_path / "in"), "--output", str(out)]) == 1
    printed = capsys.readouterr()
    assert "2 pictures: pictures, json, labels in" in printed.out
    assert "broken.png: not a JPEG, PNG, WEBP or BMP picture" in printed.err
    assert "1 of the inputs could not be read, or only in part; the others are done" in printed.err
    (found,) = load_segmenter(tmp_path / "s.safetensors").predict([tmp_path / "in/sub/a.png"])
    stored = Image.open(out / "labels/sub/a.png")
    assert stored.mode == "P"
    assert np.array_equal(np.asarray(stored), found.labels.numpy())
    assert np.array_equal(np.asarray(stored.convert("RGB")), palette()[found.labels.numpy()])
    assert Image.open(out / "sub/a.png").size == (90, 60)
    listing = json.loads((out / "segmentation.json").read_text())
    assert listing["classes"] == list(VOC_LABELS)
    assert [entry["labels"] for entry in listing["pictures"]] == ["labels/b.png", "labels/sub/a.png"]
    assert listing["pictures"][1]["height"] == 60
    for entry in listing["pictures"]:
        assert sum(entry["shares"].values()) == pytest.approx(1, abs=1e-4)


def test_what_only_detectors_have_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tmp_path / "s.safetensors")
    save_segmenter(small_segmenter(), Path(model))
    Image.fromarray(scene(1)[0]).save(tmp_path / "a.png")
    for flags, line in (
        (["--threshold", "0.5"], "--threshold: only detectors have it, and "),
        (["--max-detections", "3"], "--max-detections: only detectors have it, and "),
        (["--flip"], "--flip: only detectors have it, and "),
        (["--save", "coco"], f"--save coco: {model} gives pictures, json, labels"),
    ):
        assert predict.main(["--model", model, str(tmp_path / "a.png"), "--output", str(tmp_path / "o"), *flags]) == 1
        assert line in capsys.readouterr().err
    for flags in (["--store-thresholds"], ["--detections", "d.json"], ["--eval-backend", "hotcoco"], ["--refine"]):
        assert evaluate.main(["--model", model, *flags]) == 1
        assert f"{flags[0]}: only detectors have it" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_save_and_load_keep_the_metrics(tmp_path: Path) -> None:
    save_segmenter(small_segmenter(), tmp_path / "s.safetensors", recipe="voc", metrics={"mIoU": 0.5})
    metadata = read_metadata(tmp_path / "s.safetensors")
    assert metadata.more == {"recipe": "voc", "metrics": {"mIoU": 0.5}}
    assert (metadata.task, metadata.classes) == ("segmentation", CLASSES)


def test_models_are_scored_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_label_folder(tmp_path / "mine", {f"p{n}": scene(n) for n in range(12)}, CLASSES)
    model = tmp_path / "s.safetensors"
    save_segmenter(small_segmenter(classes=(*CLASSES, "cat")), model)
    files = ["--output", str(tmp_path / "m.json"), "--report", str(tmp_path / "r.html")]
    assert evaluate.main(["--model", str(model), "--dataset", f"voc:{folder}", "--quiet", *files]) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert f"mIoU           {metrics['mIoU']:.4f}" in printed
    assert list(metrics["per_class"]) == [*CLASSES, "cat"]
    assert "Worst pictures" in (tmp_path / "r.html").read_text()
    assert not (tmp_path / "plots").exists()
