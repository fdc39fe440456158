"""Training a segmenter: a whole run folder, exact resume, starting from others, clear errors, the command line."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.segmentation import fcn_resnet50

from backbones.errors import InputError
from backbones.running.command_line import parse
from backbones.running.resuming import options_of_run
from detection import train as train_script
from detection.head_table import HEADS
from detection.segmentation.building import load_segmenter, save_segmenter
from detection.segmentation.commands import evaluate_model, is_segmenter, predict_files
from detection.segmentation.drawing import palette
from detection.segmentation.label_names import VOC_LABELS
from detection.segmentation.prediction import predict_segmentation_files
from detection.settings import InputSettings
from detection.training import job, tasks
from detection.training.options import TrainingOptions, design, resolve
from detection.training.run import prepare, train
from tests.detection.segmentation.builders import CLASSES, few_scenes, scene, small_segmenter, write_label_folder

SMALL = {
    "head": "fcn", "backbone": "resnet20", "weights": "none", "recipe": "digits", "iterations": 6, "batch_size": 2,
    "device": "cpu", "channels": 8, "crop": 64, "shorter": (64,), "test_shorter": 64, "longer": 64, "log_every": 4,
    "evaluate_every": 3, "checkpoint_every": 2, "tensorboard": False, "quiet": True,
}  # fmt: skip


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detection.training.tasks.read_segmentation", lambda *_, **__: (few_scenes(), []))


def untimed(run: Path) -> list[dict[str, object]]:
    """The records of a run without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_a_run_leaves_a_whole_folder(scenes: None, tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, "auxiliary": True}))
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.yaml", "env.json", "metrics.jsonl", "metrics.json", "log.txt", "report.html", "plots",
        "model.safetensors", "last.pt",
    }  # fmt: skip
    records = untimed(run)
    assert [record["step"] for record in records] == [3, 4, 6, 6]
    assert {"pixels", "auxiliary", "loss", "learning_rate"} < set(records[1])
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics) == {"split", "mIoU", "pixel_accuracy", "per_class"}
    assert set(metrics["per_class"]) == set(CLASSES)
    text = (run / "report.html").read_text()
    assert (text.count("data:image/png"), text.count("data:image/jpeg")) == (5, 12)
    assert "http://" not in text
    assert load_segmenter(run).classes == CLASSES


def test_a_run_that_was_cut_resumes_bit_for_bit(scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(TrainingOptions(output=str(tmp_path / "whole"), **SMALL))
    step, steps = job.TrainingJob.train_step, []

    def dies_at_the_sixth(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == 6:
            raise RuntimeError("killed")
        return step(*arguments)

    monkeypatch.setattr(job.TrainingJob, "train_step", dies_at_the_sixth)
    with pytest.raises(RuntimeError):
        train(TrainingOptions(output=str(tmp_path / "cut"), **SMALL))
    line = ["--resume", str(tmp_path / "cut"), "--quiet", "--device", "cpu", "--workers", "1"]
    assert train_script.main(line) == 0
    cut = tmp_path / "cut"
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert untimed(cut) == untimed(whole)
    assert (cut / "metrics.json").read_text() == (whole / "metrics.json").read_text()


def test_without_validation_the_last_weights_are_kept(scenes: None, tmp_path: Path) -> None:
    changes = {"val_split": "none", "freeze": 2, "ema": 0.9}
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, **changes}))
    assert load_segmenter(run).classes == CLASSES


def test_a_loss_that_is_no_number_names_the_images(
    scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = tasks.Losses.forward
    monkeypatch.setattr(tasks.Losses, "forward", lambda *a: {"pixels": forward(*a)["pixels"] * float("nan")})
    with pytest.raises(InputError, match=r"iteration 1: a loss is not finite \(pixels nan\); images: \d.png, \d.png"):
        train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))


def test_another_segmenters_classes_are_told_by_name(tmp_path: Path) -> None:
    given = small_segmenter(classes=("background", "dark", "light", "cat"))
    own = {name: value for name, value in SMALL.items() if name not in ("backbone", "weights", "channels")}
    options = resolve(TrainingOptions(init_from="given", **own), given.settings)
    data = replace(few_scenes(), classes=("background", "light", "dog"))
    new = prepare(tasks.task_of(options), data, torch.device("cpu"), given).model
    assert new.classes == ("background", "light", "dog")
    assert new.settings.channels == given.settings.channels
    assert torch.equal(new.backbone.stem.conv.weight, given.backbone.stem.conv.weight)
    assert torch.equal(new.head.bn.running_mean, given.head.bn.running_mean)
    assert torch.equal(new.head.classes.weight[:2], given.head.classes.weight[[0, 2]])
    assert not torch.equal(new.head.classes.weight[2], given.head.classes.weight[1])
    with pytest.raises(InputError, match="--backbone resnet18: --init-from given has resnet20; leave --backbone out"):
        resolve(TrainingOptions(head="fcn", init_from="given", backbone="resnet18"), given.settings)
    with pytest.raises(InputError, match="brings its own backbone; leave --weights out"):
        resolve(TrainingOptions(head="fcn", init_from="given", weights="none"), given.settings)


def test_torchvisions_segmenter_is_a_start(scenes: None, tmp_path: Path) -> None:
    theirs = fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    torch.save(theirs.state_dict(), tmp_path / "fcn.pth")
    changes = {"init_from": str(tmp_path / "fcn.pth"), "iterations": 1, "freeze": 5, "output_stride": 16,
               "batch_norm": "frozen", "val_split": "none"}  # fmt: skip
    free = dict.fromkeys(("backbone", "weights", "channels"))
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, **free, **changes}))
    segmenter = load_segmenter(run)
    assert segmenter.settings.channels == 512
    assert torch.equal(segmenter.backbone.stem.conv.weight, theirs.backbone.conv1.weight)


def test_recipes_and_defaults() -> None:
    assert set(HEADS["fcn"].recipes) == {"voc", "coco", "quick", "digits"}
    own = resolve(TrainingOptions(head="fcn", dataset="voc:data/My Photos"))
    assert (own.recipe, own.iterations, own.batch_size, own.output) == (
        "voc",
        30_000,
        16,
        "runs/my photos-resnet50_v15-fcn",
    )
    schedule = job.make_schedule(own)
    assert schedule.at(0, 16) == 0.01
    assert schedule.at(15_000 * 16, 16) == pytest.approx(0.005)
    assert schedule.at(480_000, 16) == pytest.approx(0)
    digits = resolve(TrainingOptions(head="fcn"))
    assert (digits.recipe, digits.backbone, digits.weights) == ("digits", "resnet20", "none")
    assert resolve(TrainingOptions(head="fcn", batch_size=4, iterations=10)).images == 40


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "quikc"}, "did you mean 'quick'"),
        ({"backbone": "resnet19"}, "no backbone is named 'resnet19'"),
        ({"batch_size": 0}, "--batch-size must be positive, not 0"),
        ({"iterations": 0}, "--iterations must be positive, not 0"),
        ({"learning_rate": -1.0}, "--learning-rate must be positive"),
        ({"scales": (2.0, 0.5)}, r"--scales must be two positive numbers, the smaller first, not \(2.0, 0.5\)"),
        ({"seed": -1}, "--seed must not be negative"),
        ({"masks": True}, "--masks has no meaning for --head fcn; only for fpn and c4"),
        ({"recipe": "1x"}, "--recipe 1x is not for --head fcn; use --head fpn or c4 or vgg, or --recipe voc, coco"),
        ({"metric": "AP"}, "--metric AP: --head fcn is measured by mIoU, pixel_accuracy, last"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(TrainingOptions(head="fcn", **wrong))


def test_sides_mean_the_same_as_under_other_heads(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("shortcut").propagate = True
    options = resolve(TrainingOptions(head="fcn", dataset="voc:x", recipe="quick", shorter=(256, 288, 320)))
    assert (options.shorter, options.test_shorter, options.longer) == ((256, 288, 320), 320, 640)
    assert design(options).input == InputSettings(320, 640)
    assert not caplog.records
    own = resolve(TrainingOptions(head="fcn", dataset="voc:x", recipe="quick", shorter=(200,)))
    assert (own.shorter, own.test_shorter) == ((200,), 320)
    told = caplog.text.splitlines()[-1]
    assert "--shorter 200 is the side in training" in told
    assert "which is --test-shorter, here 320" in told


def test_options_of_earlier_versions_are_understood(tmp_path: Path) -> None:
    """Their ``shorter`` was one number, of training and testing alike."""
    (tmp_path / "config.yaml").write_text("head: fcn\nshorter: 300\nlonger: 640\ndevice: cpu\n")
    read = parse(TrainingOptions, "", (), ["--config", str(tmp_path / "config.yaml")])
    assert (read.head, read.shorter, read.test_shorter, read.metric) == ("fcn", (300,), 300, "mIoU")
    run = options_of_run(TrainingOptions(resume=str(tmp_path)), tmp_path)
    assert (run.head, run.shorter, run.test_shorter, run.metric) == ("fcn", (300,), 300, "mIoU")


def test_training_as_typed(run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    folder = write_label_folder(tmp_path / "mine", {f"p{n}": scene(n) for n in range(12)}, CLASSES)
    command = (
        "--head", "fcn", "--dataset", f"voc:{folder}", "--backbone", "resnet20", "--weights", "none",
        "--recipe", "quick", "--iterations", "2", "--batch-size", "2", "--crop", "64", "--shorter", "64",
        "--device", "cpu", "--output", "out",
    )  # fmt: skip
    run = run_script("detection/train.py", *command, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "learning rate: 0.00125 (0.01 for 16 images, scaled to 2); 2 iterations, 4 images" in run.stderr
    assert "3 classes with the background" in run.stderr
    assert load_segmenter(tmp_path / "out").classes == CLASSES


def test_faulty_label_images_stop_before_a_folder_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_label_folder(tmp_path / "mine", {f"p{n}": scene(n) for n in range(12)}, CLASSES)
    (folder / "SegmentationClass/p3.png").write_bytes(b"nothing")
    command = ["--head", "fcn", "--dataset", f"voc:{folder}", "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert train_script.main([*command, "--quiet", "--weights", "none"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "error: SegmentationClass/p3.png: not a PNG picture; mend or remove them"
    assert not (tmp_path / "out").exists()


def test_misspelt_flags_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train_script.main(["--head", "fcn", "--output-strid", "8"])
    assert stop.value.code == 2
    assert "did you mean '--output-stride'" in capsys.readouterr().err


def test_files_become_label_images_and_coloured_copies(tmp_path: Path) -> None:
    segmenter = small_segmenter(classes=VOC_LABELS)
    for name, size in (("a.png", (60, 90)), ("b.png", (64, 64))):
        Image.fromarray(scene(1, size)[0]).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    files = {tmp_path / f"{stem}.png": Path("in") / stem for stem in ("a", "broken", "b")}
    faults = predict_segmentation_files(segmenter, files, tmp_path / "out")
    assert [str(fault) for fault in faults] == [f"{tmp_path / 'broken.png'}: not a JPEG, PNG, WEBP or BMP picture"]
    found = segmenter.predict([tmp_path / "a.png"])[0]
    stored = Image.open(tmp_path / "out/labels/in/a.png")
    assert stored.mode == "P"
    assert np.array_equal(np.asarray(stored), found.labels.numpy())
    assert np.array_equal(np.asarray(stored.convert("RGB")), palette()[found.labels.numpy()])
    assert Image.open(tmp_path / "out/in/a.png").size == (90, 60)
    listing = json.loads((tmp_path / "out/segmentation.json").read_text())
    assert listing["classes"] == list(VOC_LABELS)
    assert [entry["labels"] for entry in listing["pictures"]] == ["labels/in/a.png", "labels/in/b.png"]
    for entry in listing["pictures"]:
        assert sum(entry["shares"].values()) == pytest.approx(1, abs=1e-4)


def test_save_and_load_keep_the_metrics(tmp_path: Path) -> None:
    from backbones.weights.model_file import read_metadata, task_of

    save_segmenter(small_segmenter(), tmp_path / "s.safetensors", recipe="voc", metrics={"mIoU": 0.5})
    metadata = read_metadata(tmp_path / "s.safetensors")
    assert (metadata["recipe"], metadata["metrics"], metadata["classes"]) == ("voc", {"mIoU": 0.5}, list(CLASSES))
    assert task_of(tmp_path / "s.safetensors") == "segmentation"


def test_models_are_scored_and_used_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_label_folder(tmp_path / "mine", {f"p{n}": scene(n) for n in range(12)}, CLASSES)
    model = tmp_path / "s.safetensors"
    save_segmenter(small_segmenter(classes=(*CLASSES, "cat")), model)
    assert is_segmenter(str(model))
    settings = {"device": "cpu", "quiet": True}
    files = {"output": str(tmp_path / "m.json"), "report": str(tmp_path / "r.html")}
    evaluate_model(str(model), f"voc:{folder}", "val", **settings, **files)
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert f"mIoU           {metrics['mIoU']:.4f}" in printed
    assert list(metrics["per_class"]) == [*CLASSES, "cat"]
    assert "Worst pictures" in (tmp_path / "r.html").read_text()
    (tmp_path / "broken.png").write_bytes(b"nothing")
    pictures = {path: Path(path.stem) for path in (folder / "JPEGImages/p1.png", tmp_path / "broken.png")}
    with pytest.raises(InputError, match="1 of 2 pictures could not be read; the others are done"):
        predict_files(str(model), pictures, str(tmp_path / "out"), **settings)
    assert "broken.png: not a JPEG" in capsys.readouterr().err
    assert (tmp_path / "out/labels/p1.png").exists()
