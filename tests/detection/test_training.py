"""The training loop: a whole run folder, exact resume after kills, several processes, and clear errors."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.errors import InputError
from backbones.running.command_line import Interrupted, parse
from backbones.weights.model_file import read_metadata
from detection.building import load_detector
from detection.training import job as training
from detection.training import tasks
from detection.training.options import TrainingOptions, resolve
from detection.training.run import train
from tests.detection.builders import write_voc_folder
from tests.detection.training_runs import RESUME, SMALL, few_scenes, run_on_two, small_run, start, untimed, wait_for

COMFORTS: dict[str, Any] = {"ema": 0.9, "shorter": (96, 128), "longer": 160, "accumulate": 2, "masks": True}
"""What a resumed run has to find again."""


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detection.data.digits.read_digits", few_scenes)


def test_a_run_leaves_a_whole_folder(scenes: None, tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, "tensorboard": True}))
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.yaml", "env.json", "metrics.jsonl", "metrics.json", "log.txt", "report.html", "plots",
        "model.safetensors", "last.pt", *(["tensorboard"] if find_spec("tensorboard") else []),
    }  # fmt: skip
    records = untimed(run)
    assert [record["step"] for record in records] == [3, 4, 6, 6]
    assert {"rpn_objectness", "rpn_boxes", "classes", "boxes", "loss", "learning_rate"} < set(records[1])
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"AP", "AP50", "VOC_mAP", "VOC07_mAP", "per_class"} < set(metrics)
    text = (run / "report.html").read_text()
    assert text.count("data:image/png") >= 5
    assert text.count("data:image/jpeg") == 10
    assert "http://" not in text
    again = parse(TrainingOptions, "", (), ["--config", str(run / "config.yaml"), "--output", str(tmp_path / "b")])
    assert resolve(again) == replace(again, output=str(tmp_path / "b")), "a run's options make another run like it"
    detector = load_detector(run)
    assert detector.classes == ("a", "b", "c")
    assert detector.settings.head == "fpn"
    thresholds = [metrics["classes"][name]["threshold"] for name in detector.classes]
    assert list(detector.settings.score_thresholds) == thresholds
    log = (run / "log.txt").read_text()
    for command in ("evaluate.py --model {0} --dataset digits --split val", "predict.py --model {0} PICTURES",
                    "export.py --model {0} --format onnx"):  # fmt: skip
        assert command.format(run) in log


@pytest.mark.parametrize(
    ("head", "changes"), [("fpn", {}), ("c4", {}), ("fpn", COMFORTS)], ids=["fpn", "c4", "comforts"]
)
def test_an_interrupted_run_resumes_bit_for_bit(
    head: str, changes: dict[str, Any], scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = small_run(head, **changes)
    whole = train(TrainingOptions(output=str(tmp_path / "whole"), **options))
    step, steps = training.TrainingJob.train_step, []

    def dies_at_the_sixth(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == 6:
            raise RuntimeError("killed")
        return step(*arguments)

    monkeypatch.setattr(training.TrainingJob, "train_step", dies_at_the_sixth)
    with pytest.raises(RuntimeError):
        train(TrainingOptions(output=str(tmp_path / "cut"), **options))
    cut = train(TrainingOptions(resume=str(tmp_path / "cut"), **RESUME, workers=2))
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert untimed(cut) == untimed(whole)
    assert (cut / "metrics.json").read_text() == (whole / "metrics.json").read_text()


def test_a_signal_stops_and_saves(scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = training.TrainingJob.train_step

    def signalled(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(training.TrainingJob, "train_step", signalled)
    with pytest.raises(Interrupted, match="--resume"):
        train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 1


def kill_and_resume(tmp_path: Path, kills: int, in_writes: int, iterations: int) -> None:
    """SIGKILL at random moments, some of them while the checkpoint's temporary file exists, then compare."""
    rng = random.Random(0)
    # wide enough that a checkpoint takes a while to write
    long = {
        **SMALL, **COMFORTS, "iterations": iterations, "checkpoint_every": 1, "evaluate_every": iterations // 2,
        "vector": 1024, "workers": 2,
    }  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(output=str(whole), **long).wait() == 0
    state, partial = cut / "last.pt", cut / "last.pt.partial"
    caught = 0
    for number in range(kills):
        before = state.stat().st_mtime_ns if state.exists() else None
        process = start(**RESUME, resume=str(cut)) if before else start(output=str(cut), **long)
        wait_for(lambda before=before: state.exists() and state.stat().st_mtime_ns != before, process)
        time.sleep(rng.uniform(0, 1))
        if kills - number <= in_writes:
            wait_for(partial.exists, process)
        assert process.poll() is None, "the run ended before it could be killed; make it longer"
        process.send_signal(signal.SIGKILL)
        process.wait()
        caught += partial.exists()
    assert caught >= in_writes
    assert start(**RESUME, resume=str(cut)).wait() == 0
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert untimed(cut) == untimed(whole)
    assert not list(cut.glob("*.partial"))


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=1, in_writes=1, iterations=24)


@pytest.mark.slow
def test_a_run_killed_ten_times_resumes_bit_for_bit(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=10, in_writes=3, iterations=160)


def test_a_damaged_state_is_refused(scenes: None, tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, "iterations": 2}))
    state = (run / "last.pt").read_bytes()
    (run / "last.pt").write_bytes(state[: len(state) // 2])
    with pytest.raises(InputError, match=r"last.pt: not a complete torch file"):
        train(TrainingOptions(resume=str(run), **RESUME))


def test_without_validation_the_last_weights_are_kept(scenes: None, tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, "iterations": 2, "val_split": "none"}))
    assert load_detector(run).classes == ("a", "b", "c")


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "ema": 0.9, "masks": True}], ids=["plain", "parts"])
def test_two_processes_train_as_one(changes: dict[str, Any], tmp_path: Path) -> None:
    """The same first 20 losses from one process and from two, and the same numbers on five images."""
    options = {
        **SMALL, "iterations": 20, "log_every": 1, "evaluate_every": 20, "batch_size": 4, "batch_norm": "frozen",
        "checkpoint_every": 20, "learning_rate": 0.01, **changes,
    }  # fmt: skip
    assert start(output=str(tmp_path / "one"), **options).wait() == 0
    run_on_two(tmp_path, **options, output=str(tmp_path / "two"))
    one, two = untimed(tmp_path / "one"), untimed(tmp_path / "two")
    assert [entry["step"] for entry in one] == [entry["step"] for entry in two] == [*range(1, 21), 20]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_a_loss_that_is_no_number_names_the_images_and_spares_the_weights(
    scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, steps = tasks.Losses.forward, []

    def broken(*arguments: object) -> dict[str, torch.Tensor]:
        losses = forward(*arguments)
        steps.append(1)
        return {**losses, "boxes": losses["boxes"] * float("nan")} if len(steps) == 5 else losses

    train(TrainingOptions(output=str(tmp_path / "whole"), **{**SMALL, "iterations": 4}))
    monkeypatch.setattr(tasks.Losses, "forward", broken)
    with pytest.raises(InputError, match=r"iteration 5: a loss is not finite \(.*boxes nan\); images: \d.png, \d.png"):
        train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "run")]
    assert [state["step"] for state in states] == [4, 4]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name])


def test_the_run_ends_when_weights_get_no_better(scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(tasks.DetectionTask, "measure", lambda *_: {"AP": -1.0, "AP50": next(marks), "AP75": 0.0})
    options = {**SMALL, "iterations": 50, "evaluate_every": 2, "patience": 2, "metric": "AP50", "checkpoint_every": 50}
    run = train(TrainingOptions(output=str(tmp_path / "run"), **options))
    assert [entry["AP50"] for entry in untimed(run) if "AP50" in entry] == [0.1, 0.3, 0.2, 0.3]
    state = torch.load(run / "last.pt", weights_only=True)
    assert (state["step"], state["notes"]["best"]["step"], state["notes"]["waited"]) == (8, 4, 2)
    assert read_metadata(run / "model.safetensors").more["metrics"]["step"] == 4
    train(TrainingOptions(resume=str(run), **RESUME))  # nothing is left to do
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 8


def test_flags_that_a_resumed_run_cannot_follow_are_refused(scenes: None, tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, "iterations": 2}))
    with pytest.raises(InputError, match=r"--learning-rate 0.5: the run in .* goes on as it was started, with 0.06"):
        train(TrainingOptions(resume=str(run), learning_rate=0.5, **RESUME))
    train(TrainingOptions(resume=str(run), learning_rate=0.06, workers=1, **RESUME))


def test_a_resumed_run_needs_no_pretrained_weights(
    scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_from = train(TrainingOptions(output=str(tmp_path / "first"), **{**SMALL, "iterations": 2}))
    options = {**SMALL, "iterations": 2, "weights": None, "init_from": str(start_from)}
    for name in ("backbone", "head", "channels", "vector"):
        del options[name]
    run = train(TrainingOptions(output=str(tmp_path / "run"), **options))
    shutil.rmtree(start_from)
    train(TrainingOptions(resume=str(run), **RESUME))


def test_compiled_steps_train(scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_by = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compile_by(self, backend="aot_eager", **how))
    torch._dynamo.reset()
    eager = train(TrainingOptions(output=str(tmp_path / "a"), **{**SMALL, "iterations": 2, "log_every": 1}))
    compiled = train(
        TrainingOptions(output=str(tmp_path / "b"), **{**SMALL, "iterations": 2, "log_every": 1, "compile": True})
    )
    for a, b in zip(untimed(eager), untimed(compiled), strict=True):
        assert a == pytest.approx(b, abs=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains(precision: str, scenes: None, tmp_path: Path) -> None:
    run = train(
        TrainingOptions(
            output=str(tmp_path / "run"), **{**SMALL, "iterations": 2, "precision": precision, "log_every": 1}
        )
    )
    assert all(np.isfinite(entry["loss"]) for entry in untimed(run) if "loss" in entry)


def test_bad_data_stops_before_a_folder_is_made(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path / "voc", {f"p{n}": [] for n in range(30)})
    with pytest.raises(InputError, match="has no object to learn from"):
        train(TrainingOptions(dataset=f"voc:{folder}", output=str(tmp_path / "run"), **SMALL))
    (folder / "JPEGImages" / "p3.png").unlink()
    with pytest.raises(InputError, match=r"p3.xml: no picture .*check.py --dataset voc:"):
        train(TrainingOptions(dataset=f"voc:{folder}", output=str(tmp_path / "run"), **SMALL))
    assert not (tmp_path / "run").exists()


def test_own_photographs_train(tmp_path: Path) -> None:
    objects = [("cat", (5, 5, 40, 45)), ("dog", (20, 10, 60, 60))]
    folder = write_voc_folder(tmp_path / "voc", {f"p{n}": objects[: 1 + n % 2] for n in range(12)})
    run = train(TrainingOptions(dataset=f"voc:{folder}", output=str(tmp_path / "run"), **{**SMALL, "iterations": 2}))
    assert load_detector(run).classes == ("cat", "dog")
