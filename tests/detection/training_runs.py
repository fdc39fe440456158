"""Training runs small enough for tests: eight scenes of three classes, and a detector of a few thousand weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.data.digits import SIZE, compose_scene
from tests.conftest import ROOT

SMALL: dict[str, Any] = {
    "backbone": "resnet20", "head": "fpn", "weights": "none", "recipe": "digits", "iterations": 6, "batch_size": 2,
    "device": "cpu", "channels": 8, "vector": 16, "region_samples": 8, "train_proposals": 20, "test_proposals": 10,
    "log_every": 4, "evaluate_every": 3, "checkpoint_every": 2, "tensorboard": False, "quiet": True,
}  # fmt: skip
RESUME: dict[str, Any] = {"quiet": True, "device": "cpu", "tensorboard": False}


def small_run(head: str = "fpn", **changes: Any) -> dict[str, Any]:
    """Options of a small run with this head."""
    theirs = {"fpn": (), "c4": ("channels", "vector"), "vgg": ("channels",)}[head]
    options = {name: value for name, value in SMALL.items() if name not in theirs}
    return {**options, "head": head, **({"backbone": "vgg16"} if head == "vgg" else {}), **changes}


def few_scenes(split: str) -> DetectionData:
    """Eight scenes to train on, five to validate, in place of thousands; their digits told apart as three classes."""
    scenes = [compose_scene(split, number) for number in range(8 if split == "train" else 5)]
    builder = AnnotationBuilder(("a", "b", "c"))
    for number, scene in enumerate(scenes, start=1):
        for box, label, mask in zip(scene.boxes, scene.labels, scene.masks, strict=True):
            counts = rle.encode(np.asfortranarray(mask.view(np.uint8)))["counts"]
            builder.add_object(box.tolist(), int(label) % 3, mask=counts)
        builder.add_image(f"{number}.png", number, (SIZE, SIZE))
    return DetectionData("made", builder.build(), [scene.image for scene in scenes], mirrored=False)


def untimed(run: Path) -> list[dict[str, Any]]:
    """The records of a run without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


_COMMAND = (
    "import sys; sys.path.insert(0, {root!r}); import torch; torch.set_num_threads(1)\n"
    "import detection.data.digits as digits\n"
    "from tests.detection.training_runs import few_scenes\n"
    "digits.read_digits = few_scenes\n"
    "from detection.training.run import train; from detection.training.options import TrainingOptions\n"
    "if __name__ == '__main__':\n"
    "    train(TrainingOptions(**{options!r}))\n"
)


def start(**options: Any) -> subprocess.Popen[bytes]:
    """A run in another process."""
    code = _COMMAND.format(root=str(ROOT), options=options)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def run_on_two(folder: Path, **options: Any) -> None:
    """A run on two processes, as torchrun starts them."""
    script = folder / "two.py"
    script.write_text(_COMMAND.format(root=str(ROOT), options=options))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", "localhost:0", str(script),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Until something holds, the process ends, or two minutes are over."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None and not condition():
        time.sleep(0.0002)
