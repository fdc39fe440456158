"""The training loop: a whole run folder, exact resume after kills, several processes, and clear errors."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.errors import InputError
from backbones.running.command_line import Interrupted
from detection.building import build_detector, load_detector, save_detector
from detection.data.annotations import DetectionData
from detection.data.digits import compose_scene
from detection.settings import DetectorSettings, default_settings
from detection.training import job as training
from detection.training.options import TrainingOptions, resolve
from detection.training.preparing import make_settings
from detection.training.recipes import RECIPES
from detection.training.run import train
from tests.conftest import ROOT
from tests.detection.builders import data_of, small_detector, write_voc_folder

SMALL = {
    "backbone": "resnet20", "weights": "none", "recipe": "digits", "iterations": 6, "batch_size": 2, "device": "cpu",
    "channels": 8, "vector": 16, "region_samples": 8, "train_proposals": 20, "test_proposals": 10, "log_every": 4,
    "evaluate_every": 3, "checkpoint_every": 2, "tensorboard": False, "quiet": True,
}  # fmt: skip


def few_scenes(split: str) -> DetectionData:
    """Eight scenes in place of two thousand, their ten digits told apart as three classes."""
    scenes = [compose_scene(split, number) for number in range(8)]
    objects = [
        [(tuple(map(float, box)), int(label) % 3) for box, label in zip(scene.boxes, scene.labels, strict=True)]
        for scene in scenes
    ]
    return replace(data_of([scene.image for scene in scenes], objects), mirrored=False)


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detection.data.digits.read_digits", few_scenes)


def untimed(run: Path) -> list[dict[str, object]]:
    """The records of a run without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_a_run_leaves_a_whole_folder(scenes: None, tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, "tensorboard": True}))
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.yaml", "env.json", "metrics.jsonl", "metrics.json", "log.txt", "report.html", "plots",
        "model.safetensors", "last.pt", "tensorboard",
    }  # fmt: skip
    records = untimed(run)
    assert [record["step"] for record in records] == [3, 4, 6, 6]
    assert {"rpn_objectness", "rpn_boxes", "classes", "boxes", "loss", "learning_rate"} < set(records[1])
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"AP", "AP50", "VOC_mAP", "VOC07_mAP", "per_class"} < set(metrics)
    text = (run / "report.html").read_text()
    assert text.count("data:image/png") >= 5
    assert text.count("data:image/jpeg") == 12
    assert "http://" not in text
    detector = load_detector(run)
    assert detector.classes == ("a", "b", "c")
    assert detector.settings.head == "fpn"


@pytest.mark.parametrize("head", ["fpn", "c4"])
def test_an_interrupted_run_resumes_bit_for_bit(
    head: str, scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "head": head}
    whole = train(TrainingOptions(output=str(tmp_path / "whole"), **options))
    step, steps = training.DetectionJob.train_step, []

    def dies_at_the_sixth(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == 6:
            raise RuntimeError("killed")
        return step(*arguments)

    monkeypatch.setattr(training.DetectionJob, "train_step", dies_at_the_sixth)
    with pytest.raises(RuntimeError):
        train(TrainingOptions(output=str(tmp_path / "cut"), **options))
    cut = train(TrainingOptions(resume=str(tmp_path / "cut"), quiet=True, device="cpu", tensorboard=False, workers=2))
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert untimed(cut) == untimed(whole)
    assert (cut / "metrics.json").read_text() == (whole / "metrics.json").read_text()


def test_a_signal_stops_and_saves(scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = training.DetectionJob.train_step

    def signalled(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(training.DetectionJob, "train_step", signalled)
    with pytest.raises(Interrupted, match="--resume"):
        train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 1


RESUME = {"quiet": True, "device": "cpu", "tensorboard": False}
COMMAND = (
    "import sys; sys.path.insert(0, {root!r}); import torch; torch.set_num_threads(1)\n"
    "import detection.data.digits as digits\n"
    "from tests.detection.test_training import few_scenes, SMALL\n"
    "digits.read_digits = few_scenes\n"
    "from detection.training.run import train; from detection.training.options import TrainingOptions\n"
    "train(TrainingOptions({arguments}))\n"
)


def start(**options: object) -> subprocess.Popen[bytes]:
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    code = COMMAND.format(root=str(ROOT), arguments=arguments)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None and not condition():
        time.sleep(0.0002)


def kill_and_resume(tmp_path: Path, kills: int, in_writes: int, iterations: int) -> None:
    """SIGKILL at random moments, some of them while the checkpoint's temporary file exists, then compare."""
    rng = random.Random(0)
    # wide enough that a checkpoint takes a while to write
    long = {**SMALL, "iterations": iterations, "checkpoint_every": 1, "evaluate_every": iterations // 2, "vector": 1024}
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
        train(TrainingOptions(resume=str(run), quiet=True, device="cpu", tensorboard=False))


def test_without_validation_the_last_weights_are_kept(scenes: None, tmp_path: Path) -> None:
    run = train(TrainingOptions(output=str(tmp_path / "run"), **{**SMALL, "iterations": 2, "val_split": "none"}))
    assert load_detector(run).classes == ("a", "b", "c")


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """The same losses from one process and from two, and the same numbers on five images."""
    options = {
        **SMALL, "iterations": 4, "log_every": 1, "evaluate_every": 4, "batch_size": 4, "batch_norm": "frozen",
    }  # fmt: skip
    assert start(output=str(tmp_path / "one"), **options).wait() == 0
    arguments = ", ".join(f"{name}={value!r}" for name, value in {**options, "output": str(tmp_path / "two")}.items())
    script = tmp_path / "two.py"
    script.write_text(COMMAND.format(root=str(ROOT), arguments=arguments))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(script)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    one, two = untimed(tmp_path / "one"), untimed(tmp_path / "two")
    assert [entry["step"] for entry in one] == [entry["step"] for entry in two]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_a_loss_that_is_no_number_names_the_images(
    scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = training.Losses.forward

    def broken(*arguments: object) -> dict[str, torch.Tensor]:
        losses = forward(*arguments)
        return {**losses, "boxes": losses["boxes"] * float("nan")}

    monkeypatch.setattr(training.Losses, "forward", broken)
    with pytest.raises(InputError, match=r"iteration 1: a loss is not finite \(.*boxes nan\); images: \d.png, \d.png"):
        train(TrainingOptions(output=str(tmp_path / "run"), **SMALL))


def test_compiled_steps_train(scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: None)  # the compiler itself is torch's
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


def test_recipes_are_those_of_the_model_zoos() -> None:
    options = resolve(TrainingOptions(weights="none"))
    assert (options.iterations, options.batch_size, options.learning_rate) == (90_000, 16, 0.02)
    schedule = training.make_schedule(options)
    assert schedule.at(59_999 * 16, 16) == 0.02
    assert schedule.at(60_000 * 16, 16) == pytest.approx(0.002)
    assert schedule.at(80_000 * 16, 16) == pytest.approx(0.0002)
    assert schedule.at(500 * 16, 16) == pytest.approx(0.02 * (0.001 + 0.999 * 0.5))
    assert resolve(TrainingOptions(recipe="3x")).iterations == 270_000
    assert resolve(TrainingOptions(batch_size=8)).iterations == 180_000  # the same images
    assert resolve(TrainingOptions(batch_size=8, iterations=10)).images == 80
    assert set(RECIPES) == {"1x", "2x", "3x", "quick", "digits"}


def test_defaults_follow_the_weights() -> None:
    pretrained, scratch = resolve(TrainingOptions()), resolve(TrainingOptions(weights="none"))
    assert (pretrained.freeze, pretrained.batch_norm) == (2, "frozen")
    assert (scratch.freeze, scratch.batch_norm) == (0, "trained")
    assert resolve(TrainingOptions(dataset="voc:data/My Photos")).output == "runs/my photos-resnet50_v15"
    assert resolve(TrainingOptions(recipe="digits")).batch_norm == "trained"


def test_c4_settings_put_all_anchors_on_one_level() -> None:
    options = resolve(TrainingOptions(head="c4", weights="none"))
    settings = make_settings(options, few_scenes("train"))
    assert settings.anchors.sizes == ((32, 64, 128, 256, 512),)
    assert settings.pool.size == 14
    assert settings.train_proposals.before_nms == 2000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "quikc"}, "did you mean 'quick'"),
        ({"backbone": "resnet19"}, "no backbone is named 'resnet19'"),
        ({"batch_size": 0}, "--batch-size must be positive"),
        ({"iterations": 0}, "--iterations must be positive"),
        ({"learning_rate": -1.0}, "--learning-rate must be positive"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(TrainingOptions(**wrong))


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


def test_detectors_survive_a_round_trip(tmp_path: Path) -> None:
    for head in ("fpn", "c4"):
        detector = small_detector(head).eval()
        save_detector(detector, tmp_path / "d.safetensors", metrics={"AP": 0.5})
        again = load_detector(tmp_path / "d.safetensors")
        assert again.settings == detector.settings
        picture = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
        for a, b in zip(detector.predict([picture]), again.predict([picture]), strict=True):
            assert torch.equal(a.boxes, b.boxes)


def test_settings_survive_json() -> None:
    settings = default_settings("resnet50", ("a", "b"), "c4", category_ids=(3, 9))
    assert DetectorSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_other_files_are_no_detectors(tmp_path: Path) -> None:
    from backbones import build_backbone, save_weights
    from backbones.weights.model_file import write_model

    save_weights(build_backbone("resnet20", 10), tmp_path / "c.safetensors", "resnet20")
    with pytest.raises(InputError, match=r"not a detector; detection/train\.py --weights .* makes one"):
        load_detector(tmp_path / "c.safetensors")
    settings = small_detector().settings
    write_model(
        tmp_path / "d.safetensors", {"a": torch.zeros(1)}, {"task": "detection", "architecture": settings.to_dict()}
    )
    with pytest.raises(InputError, match="tensors missing, 1 left over"):
        load_detector(tmp_path / "d.safetensors")


def test_pretrained_weights_bring_their_convention(tmp_path: Path) -> None:
    from backbones import build_backbone, save_weights
    from backbones.convention import InputConvention

    network = build_backbone("resnet20", 10)
    convention = InputConvention((10.0, 20.0, 30.0), (2.0, 3.0, 4.0), size=(32, 32))
    save_weights(network, tmp_path / "c.safetensors", "resnet20", convention=convention)
    detector = build_detector(small_detector().settings, tmp_path / "c.safetensors")
    assert detector.normalize.mean.flatten().tolist() == [10, 20, 30]
    assert detector.settings.convention.size is None
    assert torch.equal(detector.head.backbone.stem.conv.weight, network.stem.conv.weight)
