"""How many processes read data beside the one that trains."""

from __future__ import annotations

import os

import torch


def choose_workers(asked: int, device: torch.device, most: int = 64) -> int:
    """As many as asked for; below 0 the share of this training process in the machine's cores, up to ``most``.

    On a CPU training itself needs the cores, so none.
    """
    if asked >= 0:
        return asked
    if device.type != "cuda":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(most, max(1, cores // processes))
