"""What processes that train together must agree on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as processes
from torch import multiprocessing

from backbones.running import distributed
from backbones.running.atomic_write import atomic_path
from backbones.running.training_loop import _all_stop
from backbones.running.training_state import Meter


def _one_process(rank: int, place: str) -> None:
    processes.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    buffer = torch.full((3,), float(rank))
    distributed.copy_from_main([buffer])
    assert buffer.tolist() == [0, 0, 0]
    answers = [_all_stop(rank == 1 and step >= 4, step) for step in range(1, 21)]
    assert answers.index(True) == 9, "both stop after the tenth step, though the signal reached one in the fourth"
    meter = Meter()
    meter.add({"loss": torch.tensor(float(rank))}, {})
    assert meter.state()["sums"] == {"loss": 0.5}, "a checkpoint holds the mean, from which both go on"
    processes.destroy_process_group()


def test_buffers_and_the_wish_to_stop_are_shared(tmp_path: Path) -> None:
    multiprocessing.spawn(_one_process, (str(tmp_path / "meeting"),), nprocs=2)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mean.npz"
    with atomic_path(path) as first:
        first.write_text("whole")
        monkeypatch.setenv("RANK", "1")
        with atomic_path(path) as second:
            second.write_text("whole")
    assert path.read_text() == "whole"
