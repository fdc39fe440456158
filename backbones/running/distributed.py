"""One process or several: the few questions that the rest of the code asks about it.

Several processes are started by ``torchrun``; without it every function answers for a single process, and needs no
torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@contextmanager
def process_group(device: torch.device | None) -> Iterator[None]:
    """Join the group that torchrun announced, if it did, and leave it at the end.

    Args:
        device: of this process; None where torch computes nothing.
    """
    if "RANK" not in os.environ:
        yield
        return
    import torch.distributed as processes

    processes.init_process_group("nccl" if device is not None and device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        processes.destroy_process_group()


def _group() -> Any:
    """What speaks for the group, or None where there is none; whoever has joined one has imported torch."""
    processes: Any = sys.modules.get("torch.distributed")
    return processes if processes is not None and processes.is_initialized() else None


def rank() -> int:
    """This process's number, from 0."""
    group = _group()
    return group.get_rank() if group else 0


def world_size() -> int:
    """How many processes there are."""
    group = _group()
    return group.get_world_size() if group else 1


def local_rank() -> int:
    """This process's number on its machine: the index of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def require_shares(batch_size: int, parts: int = 1) -> None:
    """Refuse a batch that cannot be divided among the processes, each of which computes its share in ``parts``.

    Raises:
        InputError: so it is.
    """
    if batch_size % (world_size() * parts):
        among = f"{world_size()} processes" + (f" of {parts} parts each" if parts > 1 else "")
        raise InputError(f"--batch-size {batch_size} cannot be divided among {among}")


def in_parallel(module: nn.Module, device: torch.device, statistics: bool = False) -> nn.Module:
    """A module that exchanges its gradients with those of the other processes; itself where there are none.

    Args:
        module: on the device.
        device: this process's.
        statistics: batch normalization sees the global batch, on GPUs.
    """
    if world_size() == 1:
        return module
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    if statistics and device.type == "cuda":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return DistributedDataParallel(module, [device.index] if device.type == "cuda" else None)


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without gradient; the tensor itself for one process."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    _group().all_reduce(total)
    return total / world_size()


def gather_objects(value: Any) -> list[Any]:
    """Every process's value, in order of rank, on every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    _group().all_gather_object(values, value)
    return values


def gather_on_main(value: Any) -> list[Any]:
    """Every process's value, in order of rank, on the main process; an empty list on the others."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if is_main() else None
    _group().gather_object(value, values)
    return values or []


def copy_from_main(tensors: Iterable[Tensor]) -> None:
    """Give tensors of every process the main process's values, in place."""
    if world_size() > 1:
        for tensor in tensors:
            _group().broadcast(tensor, 0)


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        _group().barrier()


def share_of(count: int) -> range:
    """The contiguous part of ``range(count)`` that this process evaluates: every item once, no padding."""
    edges = [count * index // world_size() for index in (rank(), rank() + 1)]
    return range(*edges)


def choose_workers(asked: int, device: torch.device, most: int = 64) -> int:
    """How many processes read data beside this one, which trains.

    As many as asked for; below 0 the share of this training process in the machine's cores, up to ``most``.

    On a CPU training itself needs the cores, so none.
    """
    if asked >= 0:
        return asked
    if device.type != "cuda":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(most, max(1, cores // processes))
