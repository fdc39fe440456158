"""One process or several: the few questions that the rest of the code asks about it.

Several processes are started by ``torchrun``; without it every function answers for a single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as processes
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from backbones.errors import InputError


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the group that torchrun announced, if it did, and leave it at the end."""
    if "RANK" not in os.environ:
        yield
        return
    processes.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        processes.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return processes.get_rank() if processes.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return processes.get_world_size() if processes.is_initialized() else 1


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
    if statistics and device.type == "cuda":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return DistributedDataParallel(module, [device.index] if device.type == "cuda" else None)


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without gradient; the tensor itself for one process."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    processes.all_reduce(total)
    return total / world_size()


def gather_objects(value: Any) -> list[Any]:
    """Every process's value, in order of rank, on every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    processes.all_gather_object(values, value)
    return values


def gather_on_main(value: Any) -> list[Any]:
    """Every process's value, in order of rank, on the main process; an empty list on the others."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if is_main() else None
    processes.gather_object(value, values)
    return values or []


def copy_from_main(tensors: Iterable[Tensor]) -> None:
    """Give tensors of every process the main process's values, in place."""
    if world_size() > 1:
        for tensor in tensors:
            processes.broadcast(tensor, 0)


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        processes.barrier()


def share_of(count: int) -> range:
    """The contiguous part of ``range(count)`` that this process evaluates: every item once, no padding."""
    edges = [count * index // world_size() for index in (rank(), rank() + 1)]
    return range(*edges)
