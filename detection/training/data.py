"""What a detector is trained on, from names to batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.workers import choose_workers
from detection.data.annotations import DetectionData
from detection.data.archives import download_dataset
from detection.data.batches import Batch, TrainingBatches
from detection.data.datasets import read_checked
from detection.data.plan import BatchPlanner
from detection.training.options import TrainingOptions

_MOST_WORKERS = 8
"""Each holds two batches ahead; more only fill the memory."""


def read_splits(options: TrainingOptions) -> tuple[DetectionData, DetectionData | None]:
    """Both splits, after the data check.

    Raises:
        InputError: a split is missing or has faulty files, or there is nothing to learn in it.
    """
    assert options.split and options.val_split
    if options.download:
        if distributed.is_main():
            download_dataset(options.dataset, options.data_dir)
        distributed.barrier()
    known: dict[str, Any] = {"masks": options.masks, "data_dir": options.data_dir}
    data = read_checked(options.dataset, options.split, **known)
    if not len(data.annotations.objects.labels):
        raise InputError(f"{options.dataset}: split {options.split} has no object to learn from")
    if options.masks and data.annotations.objects.masks is None:
        raise InputError(f"--masks: {options.dataset} has boxes only; leave --masks out")
    if options.val_split == "none":
        return data, None
    return data, read_checked(options.dataset, options.val_split, data.annotations.classes, **known)


def make_loader(options: TrainingOptions, data: DetectionData, step: int, device: torch.device) -> Iterable[Batch]:
    """Batches from ``step`` on.

    Raises:
        InputError: the batch cannot be divided among processes and parts.
    """
    assert options.iterations is not None and options.batch_size is not None and options.shorter and options.longer
    processes, parts = distributed.world_size(), options.accumulate
    if options.batch_size % (processes * parts):
        among = f"{processes} processes" + (f" of {parts} parts each" if parts > 1 else "")
        raise InputError(f"--batch-size {options.batch_size} cannot be divided among {among}")
    planner = BatchPlanner(
        data.annotations.sizes, options.batch_size, options.seed,
        shorter=options.shorter, longer=options.longer, mirrored=data.mirrored,
        few_sizes=options.compile,
    )  # fmt: skip
    batches = TrainingBatches(
        data, planner, distributed.rank(), processes, learn_ignored=options.learn_ignored, masks=options.masks
    )
    workers = choose_workers(options.workers, device, _MOST_WORKERS)
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(step, options.iterations),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        # forked workers share the annotations; others would each get a copy
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )


def parts_of(batch: Batch, count: int, device: torch.device) -> list[Batch]:
    """A batch on the device, cut into ``count`` equal parts of the same padded size."""
    images, targets = batch.images.to(device, non_blocking=True), batch.targets.to(device)
    share = len(batch.numbers) // count
    rows = [slice(first, first + share) for first in range(0, len(batch.numbers), share)]
    return [Batch(images[part], targets.each(_taking(part)), batch.numbers[part]) for part in rows]


def _taking(rows: slice) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[rows]
