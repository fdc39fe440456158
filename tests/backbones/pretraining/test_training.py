"""Pretraining runs: what they leave behind, how they stop and go on, one process and several."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.building import build_backbone
from backbones.classifier import load_classifier
from backbones.data.arrays import LabelledImages
from backbones.data.digits import digits_classification
from backbones.errors import InputError
from backbones.evaluation import rates_of
from backbones.pretraining import data as pretraining_data
from backbones.pretraining import job as pretraining_job
from backbones.pretraining.data import measure_convention
from backbones.pretraining.job import PretrainingJob
from backbones.pretraining.options import TrainingOptions
from backbones.pretraining.recipes import find_recipe
from backbones.pretraining.training import train
from backbones.running.command_line import Interrupted
from backbones.running.keyed_random import generator
from backbones.running.training_state import TrainingState
from backbones.weights import save_weights
from tests.conftest import ROOT

SMALL = {
    "recipe": "quick", "arch": "resnet20", "iterations": 6, "batch_size": 8, "device": "cpu", "log_every": 4,
    "evaluate_every": 3, "tensorboard": False, "quiet": True,
}  # fmt: skip


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are tested on 24 pictures, so that a test takes a second."""

    def few(*_: object) -> LabelledImages:
        data = digits_classification("val")
        return LabelledImages(data.images[:24], data.labels[:24], data.classes, data.mirrored)

    monkeypatch.setattr(pretraining_data, "read_classification", few)


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two classes of small noisy photographs, in folders; and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split, count in (("train", 6), ("val", 2)):
        for label, shade in (("dark", 40), ("light", 200)):
            folder = tmp_path / "photographs" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator(number, shade).integers(-30, 30, (60 + 7 * number, 90, 3))
                Image.fromarray(np.uint8(shade + noise)).save(folder / f"{number}.jpg")
    return f"folder:{tmp_path / 'photographs'}"


def untimed(run: Path) -> list[dict[str, object]]:
    """The records of a run without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_per_pixel_means_are_measured() -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3)).astype(np.uint8)
    data = LabelledImages(images, np.zeros(5, np.int64), ("a",))
    convention, picture = measure_convention(data, find_recipe("paper", "resnet20"), TrainingOptions())
    assert np.allclose(picture.permute(1, 2, 0).numpy(), images.mean(0))
    assert convention.std == (1.0, 1.0, 1.0)
    convention, picture = measure_convention(data, find_recipe("quick", "resnet20"), TrainingOptions())
    assert picture is None
    assert np.allclose(convention.mean, images.mean((0, 1, 2)))
    assert np.allclose(convention.std, images.std((0, 1, 2)))
    assert convention.size == (4, 6)


def test_a_run_leaves_a_whole_folder(few_digits: None, tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "env.json", "metrics.jsonl", "metrics.json", "log.txt", "model.safetensors", "last.pt",
            "report.html", "plots"} <= names  # fmt: skip
    records = untimed(run)
    assert [record["step"] for record in records] == [3, 4, 6, 6]
    assert {"loss", "cross_entropy", "train_error", "learning_rate"} <= records[1].keys()
    assert json.loads((run / "metrics.json").read_text()).keys() >= {"split", "top1_error", "top5_error", "train_error"}
    classifier = load_classifier(run)
    assert classifier.classes == tuple("0123456789")
    assert classifier.logits(digits_classification("val").images[:3]).shape == (3, 10)


def die_at_step(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the run with an error in a step, as a kill would."""
    step, steps = PretrainingJob.train_step, []

    def dies(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == number:
            raise RuntimeError("killed")
        return step(*arguments)

    monkeypatch.setattr(PretrainingJob, "train_step", dies)


@pytest.mark.parametrize(("recipe", "engine"), [("paper", "eager"), ("quick", "eager"), ("paper", "graph")])
def test_an_interrupted_run_resumes_bit_for_bit(
    recipe: str, engine: str, few_digits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**SMALL, "recipe": recipe, "engine": engine}
    whole = train(TrainingOptions(output=str(tmp_path / "whole"), **small))
    die_at_step(6, monkeypatch)
    with pytest.raises(RuntimeError):
        train(TrainingOptions(output=str(tmp_path / "cut"), **small))
    cut = train(TrainingOptions(resume=str(tmp_path / "cut"), quiet=True, device="cpu", tensorboard=False))
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert untimed(cut) == untimed(whole)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (whole, cut)]
    assert all(marks.pop("seconds") > 0 for marks in metrics)
    assert metrics[0] == metrics[1]


STREAMED = {**SMALL, "arch": "resnet18", "recipe": "paper", "iterations": 4, "batch_size": 4, "evaluate_every": 2,
            "learning_rate": 1e-3, "mean_images": 0, "log_every": 1}  # fmt: skip


@pytest.fixture
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of section 3.4 at 32 pixels instead of 224."""
    for module in (pretraining_job, pretraining_data):
        monkeypatch.setattr(module, "SIDE", 32)
    monkeypatch.setattr(pretraining_data, "TEST_SIDE", 36)


def test_streamed_pictures_resume_bit_for_bit_in_mid_epoch_with_workers(
    photographs: str, small_crops: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = {**STREAMED, "dataset": photographs}
    whole = train(TrainingOptions(output=str(tmp_path / "whole"), workers=2, **streamed))
    die_at_step(4, monkeypatch)
    with pytest.raises(RuntimeError):
        train(TrainingOptions(output=str(tmp_path / "cut"), workers=0, **streamed))
    cut = train(TrainingOptions(resume=str(tmp_path / "cut"), quiet=True, device="cpu", tensorboard=False, workers=2))
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert untimed(cut) == untimed(whole)
    classifier = load_classifier(whole)
    assert classifier.normalize.mean.shape == (3, 32, 32), "the per-pixel mean travels with the weights"
    assert classifier.convention.resize == 36


def test_a_broken_picture_is_named(photographs: str, small_crops: None, tmp_path: Path) -> None:
    broken = tmp_path / "photographs" / "train" / "dark" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(InputError, match=r"3\.jpg"):
        train(TrainingOptions(output=str(tmp_path / "run"), dataset=photographs, workers=0, **STREAMED))


def test_a_broken_picture_is_one_line_from_workers_too(photographs: str, tmp_path: Path) -> None:
    broken = tmp_path / "photographs" / "train" / "dark" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    command = [sys.executable, str(ROOT / "backbones" / "train.py"), "--dataset", photographs, "--arch", "resnet18",
               "--device", "cpu", "--workers", "2", "--quiet", "--output", str(tmp_path / "run")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {broken}: ")
    assert len(done.stderr.splitlines()) == 1


def test_several_seeds_are_several_runs(few_digits: None, tmp_path: Path) -> None:
    place = train(TrainingOptions(output=str(tmp_path / "both"), seeds="1,2", engine="graph", **SMALL))
    alone = train(TrainingOptions(output=str(tmp_path / "alone"), seed=2, engine="graph", **SMALL))
    assert (place / "seed2" / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()
    assert untimed(place / "seed2") == untimed(alone) != untimed(place / "seed1")


def test_several_seeds_resume_together(few_digits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(TrainingOptions(output=str(tmp_path / "whole"), seeds="0-1", **SMALL))
    die_at_step(9, monkeypatch)  # two runs: in the fifth step
    with pytest.raises(RuntimeError):
        train(TrainingOptions(output=str(tmp_path / "cut"), seeds="0-1", **SMALL))
    cut = train(TrainingOptions(resume=str(tmp_path / "cut"), quiet=True, device="cpu", tensorboard=False))
    for seed in ("seed0", "seed1"):
        assert (cut / seed / "model.safetensors").read_bytes() == (whole / seed / "model.safetensors").read_bytes()


def test_a_seed_that_a_kill_left_behind_catches_up(
    few_digits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(TrainingOptions(output=str(tmp_path / "whole"), seeds="0-1", **SMALL))
    save, saves = TrainingState.save, []

    def dies(self: TrainingState, path: Path) -> None:
        saves.append(1)
        if len(saves) == 2:
            raise RuntimeError("killed")  # seed 0 is saved after the third step, seed 1 is not
        save(self, path)

    with monkeypatch.context() as killing, pytest.raises(RuntimeError):
        killing.setattr(TrainingState, "save", dies)
        train(TrainingOptions(output=str(tmp_path / "cut"), seeds="0-1", **SMALL))
    cut = train(TrainingOptions(resume=str(tmp_path / "cut"), quiet=True, device="cpu", tensorboard=False))
    for seed in ("seed0", "seed1"):
        assert (cut / seed / "model.safetensors").read_bytes() == (whole / seed / "model.safetensors").read_bytes()
        assert untimed(cut / seed) == untimed(whole / seed)


def test_seeds_make_no_folder_where_one_is_taken(few_digits: None, tmp_path: Path) -> None:
    (tmp_path / "runs" / "seed1").mkdir(parents=True)
    (tmp_path / "runs" / "seed1" / "config.yaml").write_text("{}")
    with pytest.raises(InputError, match="holds a run"):
        train(TrainingOptions(output=str(tmp_path / "runs"), seeds="0-1", **SMALL))
    assert not (tmp_path / "runs" / "seed0").exists()
    (tmp_path / "runs" / "seed1" / "config.yaml").rename(tmp_path / "runs" / "seed1" / "mine.txt")
    with pytest.raises(InputError, match=r"seed1: holds mine.txt, and is no run"):
        train(TrainingOptions(output=str(tmp_path / "runs"), seeds="0-1", **SMALL))
    assert not (tmp_path / "runs" / "seed0").exists()


def test_a_signal_stops_and_saves(few_digits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = PretrainingJob.train_step

    def signalled(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(PretrainingJob, "train_step", signalled)
    with pytest.raises(Interrupted, match="--resume"):
        train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 1


def test_a_run_can_start_from_weights(few_digits: None, tmp_path: Path) -> None:
    first = train(TrainingOptions(output=str(tmp_path / "a"), **SMALL))
    second = train(TrainingOptions(output=str(tmp_path / "b"), weights=str(first), **{**SMALL, "learning_rate": 0.0}))
    a, b = load_classifier(first), load_classifier(second)
    assert torch.equal(a.network.fc.weight, b.network.fc.weight)


def test_weights_of_other_classes_leave_the_classifier(
    few_digits: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(9)
    source = build_backbone("resnet20", 4)
    save_weights(source, tmp_path / "four.safetensors", "resnet20", classes=tuple("abcd"))
    options = {**SMALL, "iterations": 1, "learning_rate": 0.0}
    run = train(TrainingOptions(output=str(tmp_path / "run"), weights=str(tmp_path / "four.safetensors"), **options))
    network = load_classifier(run).network
    assert torch.equal(network.stem.conv.weight, source.stem.conv.weight)
    assert network.fc.weight.shape == (10, 64)


def test_the_warm_up_of_110_layers_ends_when_the_error_has_fallen(
    few_digits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining_job, "WARMUP_WINDOW", 4)
    monkeypatch.setattr(pretraining_job, "find_recipe", lambda *_: find_recipe("paper", "resnet110"))
    options = {**SMALL, "recipe": "paper", "iterations": 20, "log_every": 1, "evaluate_every": 20}
    records = untimed(train(TrainingOptions(output=str(tmp_path / "run"), **options)))
    steps = [record for record in records if "train_error" in record]
    errors, rates = ([record[name] for record in steps] for name in ("train_error", "learning_rate"))
    windows = [np.mean(errors[start : start + 4]) for start in range(0, 20, 4)]
    end = 4 * (next(number for number, mean in enumerate(windows) if mean < 80) + 1)
    assert 0 < end < 20
    assert rates[:end] == pytest.approx([0.01 * 8 / 128] * end)
    assert rates[end] == pytest.approx(0.1 * 8 / 128)


def test_the_fast_engine_is_refused_where_it_cannot_work(few_digits: None, tmp_path: Path) -> None:
    options = {**SMALL, "engine": "graph", "precision": "fp16"}
    with pytest.raises(InputError, match="--engine graph: fp16"):
        train(TrainingOptions(output=str(tmp_path / "run"), **options))
    assert not (tmp_path / "run").exists()


def test_the_fast_engine_is_refused_for_files(photographs: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--engine graph: needs data that lies in memory"):
        train(TrainingOptions(output=str(tmp_path / "run"), dataset=photographs, **{**STREAMED, "engine": "graph"}))


def test_synthetic_data_needs_no_data(tmp_path: Path) -> None:
    options = {**SMALL, "iterations": 2, "dataset": "imagenet", "data_dir": str(tmp_path / "absent")}
    run = train(TrainingOptions(output=str(tmp_path / "run"), synthetic=True, **options))
    assert untimed(run)[-1]["step"] == 2


def test_activations_can_be_checkpointed(few_digits: None, tmp_path: Path) -> None:
    plain = train(TrainingOptions(output=str(tmp_path / "a"), **{**SMALL, "iterations": 2}))
    thrifty = train(
        TrainingOptions(output=str(tmp_path / "b"), checkpoint_activations=True, **{**SMALL, "iterations": 2})
    )
    for a, b in zip(untimed(plain), untimed(thrifty), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_error_rates() -> None:
    scores = np.eye(6)[[0, 1, 2, 3]] + np.array([[0, 0, 0, 0, 0, 0.5]])
    rates = rates_of(scores, np.array([0, 1, 5, 4]))
    assert (rates.top1, rates.images) == (50, 4)
    assert rates.top5 == 25  # the last picture's class ties with others at 0 and is sixth
    assert rates_of(np.array([[0.1, 0.9]]), np.array([0])).top5 == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_two_processes_train_as_two_nodes_would(photographs: str, tmp_path: Path) -> None:
    """The documented command for several machines, with a machine of one process twice."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--master-addr",
        "127.0.0.1", "--master-port", str(free_port()),
    ]  # fmt: skip
    arguments = [
        str(ROOT / "backbones" / "train.py"), "--dataset", photographs, "--arch", "resnet18", "--iterations", "2",
        "--batch-size", "4", "--device", "cpu", "--learning-rate", "0.001", "--log-every", "1", "--mean-images", "4",
        "--no-tensorboard", "--workers", "0", "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen([*command, "--node-rank", str(rank), *arguments], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    outputs = [node.communicate(timeout=300)[1].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    records = [record for record in untimed(tmp_path / "run") if "loss" in record]
    assert [record["step"] for record in records] == [1, 2]
    assert all(np.isfinite(record["loss"]) for record in records)
    assert load_classifier(tmp_path / "run").classes == ("dark", "light")
