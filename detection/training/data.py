"""What a detector is trained on, from names to batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.utils.data import DataLoader

from backbones.errors import InputError
from backbones.running import distributed
from detection.data.annotations import DetectionData
from detection.data.batches import Batch, TrainingBatches
from detection.data.datasets import read_dataset
from detection.data.faults import refuse_faulty_files
from detection.data.plan import BatchPlanner
from detection.training.options import TrainingOptions


def read_splits(options: TrainingOptions) -> tuple[DetectionData, DetectionData | None]:
    """Both splits, after the data check."""
    data, faults = read_dataset(options.dataset, options.split)
    refuse_faulty_files(faults, options.dataset)
    if not len(data.annotations.objects.labels):
        raise InputError(f"{options.dataset}: split {options.split} has no object to learn from")
    if options.val_split == "none":
        return data, None
    val, faults = read_dataset(options.dataset, options.val_split, data.annotations.classes)
    refuse_faulty_files(faults, options.dataset)
    return data, val


def make_loader(options: TrainingOptions, data: DetectionData, step: int, device: torch.device) -> Iterable[Batch]:
    """Batches from ``step`` on."""
    assert options.iterations is not None and options.batch_size is not None and options.shorter and options.longer
    if options.batch_size % distributed.world_size():
        raise InputError(
            f"--batch-size {options.batch_size} cannot be divided among {distributed.world_size()} processes"
        )
    planner = BatchPlanner(
        data.annotations.sizes, options.batch_size, options.seed,
        shorter=options.shorter, longer=options.longer, mirrored=data.mirrored,
    )  # fmt: skip
    batches = TrainingBatches(
        data, planner, distributed.rank(), distributed.world_size(), learn_ignored=options.learn_ignored
    )
    workers = options.workers if options.workers >= 0 else (4 if device.type == "cuda" else 0)
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(step, options.iterations),
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
