"""Pretraining: the loop learns, resumes exactly, and its parts are what section 4.2 says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import training
from backbones.augmentation import crop_and_mirror
from backbones.classifier import load_classifier
from backbones.data.arrays import LabelledImages
from backbones.data.digits import digits_classification
from backbones.errors import InputError
from backbones.evaluation import rates_of
from backbones.recipes import RECIPES, find_recipe
from backbones.running.command_line import Interrupted
from backbones.training import measure_convention, train
from backbones.training_options import TrainingOptions, resolve

SMALL = {
    "recipe": "quick", "arch": "resnet20", "iterations": 6, "batch_size": 8, "device": "cpu", "log_every": 4,
    "evaluate_every": 3, "tensorboard": False, "quiet": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are tested on 24 pictures, so that a test takes a second."""

    def few(split: str) -> LabelledImages:
        data = digits_classification("val")
        return LabelledImages(data.images[:24], data.labels[:24], data.classes, data.mirrored)

    monkeypatch.setattr(training, "digits_classification", few)


def slow_crop_and_mirror(image: np.ndarray, draws: np.ndarray, mirrored: bool) -> np.ndarray:
    """One image [C, H, W], the obvious way: pad, cut, perhaps mirror."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
    top, left = int(draws[0] * 9), int(draws[1] * 9)
    cut = padded[:, top : top + height, left : left + width]
    return cut[:, :, ::-1] if mirrored and draws[2] < 0.5 else cut


@pytest.mark.parametrize("mirrored", [True, False])
def test_augmentation_by_gather_equals_the_loop(mirrored: bool) -> None:
    images, draws = torch.randn(40, 3, 8, 10), torch.rand(40, 3)
    draws[0], draws[1] = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.999, 0.999, 0.999])
    expected = [slow_crop_and_mirror(i.numpy(), d.numpy(), mirrored) for i, d in zip(images, draws, strict=True)]
    assert np.array_equal(crop_and_mirror(images, draws, mirrored).numpy(), np.stack(expected))


def test_the_paper_recipe_is_section_4_2() -> None:
    options = resolve(TrainingOptions())
    assert (options.iterations, options.batch_size, options.learning_rate) == (64_000, 128, 0.1)
    assert RECIPES["paper"].momentum == 0.9
    assert RECIPES["paper"].weight_decay == 1e-4
    schedule = training.make_schedule(options)
    rates = [schedule.at(step * 128, 128) for step in (0, 31_999, 32_000, 47_999, 48_000)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_per_pixel_means_are_measured() -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3)).astype(np.uint8)
    data = LabelledImages(images, np.zeros(5, np.int64), ("a",))
    convention, picture = measure_convention(data, per_pixel=True)
    assert np.allclose(picture.permute(1, 2, 0).numpy(), images.mean(0))
    assert convention.std == (1.0, 1.0, 1.0)
    convention, picture = measure_convention(data, per_pixel=False)
    assert picture is None
    assert np.allclose(convention.mean, images.mean((0, 1, 2)))
    assert convention.size == (4, 6)


def test_a_run_leaves_a_whole_folder(tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))
    names = {path.name for path in run.iterdir()}
    assert {
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "metrics.json",
        "log.txt",
        "model.safetensors",
        "last.pt",
    } <= names
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [3, 4, 6, 6]
    classifier = load_classifier(run)
    assert classifier.classes == tuple("0123456789")
    assert classifier.logits(digits_classification("val").images[:3]).shape == (3, 10)


@pytest.mark.parametrize("recipe", ["paper", "quick"])
def test_an_interrupted_run_resumes_bit_for_bit(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {**SMALL, "recipe": recipe}
    whole = train(TrainingOptions(output=str(tmp_path / "whole"), **small))
    steps = []

    def stop_after_five(*arguments: object) -> dict[str, torch.Tensor]:
        steps.append(1)
        if len(steps) == 6:
            raise Interrupted("killed")
        return step(*arguments)

    step = training.train_step
    monkeypatch.setattr(training, "train_step", stop_after_five)
    with pytest.raises(Interrupted):
        train(TrainingOptions(output=str(tmp_path / "cut"), **small))
    cut = train(TrainingOptions(resume=str(tmp_path / "cut"), quiet=True, device="cpu", tensorboard=False))
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert untimed(cut) == untimed(whole)


def untimed(run: Path) -> list[dict[str, object]]:
    """The records of a run without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_a_signal_stops_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    step = training.train_step

    def signalled(*arguments: object) -> dict[str, torch.Tensor]:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(training, "train_step", signalled)
    with pytest.raises(Interrupted, match="--resume"):
        train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 1


def test_a_run_can_start_from_weights(tmp_path: Path) -> None:
    first = train(TrainingOptions(output=str(tmp_path / "a"), **SMALL))
    second = train(TrainingOptions(output=str(tmp_path / "b"), weights=str(first), **{**SMALL, "learning_rate": 0.0}))
    a, b = load_classifier(first), load_classifier(second)
    assert torch.equal(a.network.fc.weight, b.network.fc.weight)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "papr"}, "did you mean 'paper'"),
        ({"arch": "resnet21"}, "no network is named 'resnet21'"),
        ({"batch_size": 0}, "--batch-size must be positive"),
        ({"iterations": -1}, "--iterations must be positive"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(TrainingOptions(**wrong))
    with pytest.raises(InputError):
        find_recipe("x")


def test_error_rates() -> None:
    scores = np.eye(6)[[0, 1, 2, 3]] + np.array([[0, 0, 0, 0, 0, 0.5]])
    rates = rates_of(scores, np.array([0, 1, 5, 4]))
    assert (rates.top1, rates.images) == (50, 4)
    assert rates.top5 == 25  # the last picture's class ties with others at 0 and is sixth
    assert rates_of(np.array([[0.1, 0.9]]), np.array([0])).top5 == 0
