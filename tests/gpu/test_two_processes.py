"""A detector trained by two processes is the one that a single process trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import detection.data.digits as digits
from detection.training.options import TrainingOptions
from detection.training.run import train
from tests.detection.training_runs import few_scenes, run_on_two, small_run, untimed

TWO_GPUS = (
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs, which NCCL joins"),
)


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=TWO_GPUS)])
def test_two_train_as_one(tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = small_run(batch_size=4, batch_norm="frozen", device=device)
    monkeypatch.setattr(digits, "read_digits", few_scenes)
    alone = train(TrainingOptions(**options, output=str(tmp_path / "one")))
    run_on_two(tmp_path, **options, output=str(tmp_path / "two"))
    for mine, theirs in zip(untimed(alone), untimed(tmp_path / "two"), strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("loss", "rpn_classes"):
            if name in mine:
                assert theirs[name] == pytest.approx(mine[name], rel=0.02), name
