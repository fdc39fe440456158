"""A segmenter's run, as the training loop sees it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.keyed_random import fold
from backbones.running.learning_rate import Schedule
from backbones.running.precision import autocast
from backbones.running.run_folder import RunFolder
from backbones.running.training_state import TrainingState
from backbones.running.workers import choose_workers
from detection.segmentation.batches import CropBatch, TrainingCrops
from detection.segmentation.building import save_segmenter
from detection.segmentation.crops import CropPlanner
from detection.segmentation.evaluation import evaluate_segmenter
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.options import SegmentationOptions
from detection.segmentation.recipes import REFERENCE_BATCH
from detection.segmentation.segmenter import Segmenter
from detection.segmentation.targets import SegmentationTargets
from detection.training.finite import FiniteWatch
from detection.training.stepping import note_marks, take_step, waited_enough

logger = logging.getLogger("shortcut")
EVALUATION_BATCH = 4
_MOST_WORKERS = 16
"""Enlarging whole pictures to crop them takes more time than a detector's resizing."""


class PixelLosses(nn.Module):
    """The segmenter as the module that is wrapped for several processes and compiled: (images, targets) -> losses."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor, targets: SegmentationTargets) -> dict[str, Tensor]:
        return self.segmenter.losses(images, targets)


class SegmentationJob:
    """A segmenter's run.

    Args:
        options: resolved.
        state: with a ``Segmenter`` as its model.
        data, val: to train on, and to choose the best weights by.
        folder: of the run.
        device: of the model.
    """

    def __init__(
        self,
        options: SegmentationOptions,
        state: TrainingState,
        data: SegmentationData,
        val: SegmentationData | None,
        folder: RunFolder,
        device: torch.device,
    ) -> None:
        assert isinstance(state.model, Segmenter)
        self.options, self.state, self.data, self.val, self.folder = options, state, data, val, folder
        self.device = device
        self.segmenter = state.model
        self.schedule = make_schedule(options)
        self.losses_of = _wrap(options, self.segmenter, device)
        self.watch = FiniteWatch(data.images.annotations.names, device)

    def on_device(self) -> AbstractContextManager[None]:
        return nullcontext()

    def batches(self) -> Iterable[CropBatch]:
        return make_loader(self.options, self.data, self.state.step, self.device)

    def learning_rate(self) -> float:
        return float(self.state.optimizer.param_groups[0]["lr"])

    def train_step(self, batch: CropBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Forward, backward, and one step of SGD, which a loss or gradient that is not finite leaves out."""
        options, state = self.options, self.state
        assert options.batch_size is not None
        torch.manual_seed(fold(options.seed, state.step, distributed.rank()))  # dropout
        for group in state.optimizer.param_groups:
            group["lr"] = self.schedule.at(state.step * options.batch_size, options.batch_size)
        state.optimizer.zero_grad()
        targets = batch.targets.to(self.device)
        with autocast(self.device, options.precision):
            losses: dict[str, Tensor] = self.losses_of(batch.images.to(self.device, non_blocking=True), targets)
        state.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        take_step(state, self.watch, losses, batch.numbers, options.clip_norm or 0.0)
        return losses, {}

    def evaluate(self) -> dict[str, float]:
        """Marks on the validation split; the best weights by mIoU are kept."""
        self.watch.ask()
        with self.state.average.applied() if self.state.average else nullcontext():
            if self.val is None:
                if self.state.step == self.options.iterations:
                    self._keep({})
                return {}
            metrics = evaluate_segmenter(self.segmenter.predict_each, self.val, EVALUATION_BATCH).metrics
            logger.info(
                "iteration %d: %s %s mIoU %.4f  pixels %.4f", self.state.step, self.options.dataset,
                self.options.val_split, metrics["mIoU"], metrics["pixel_accuracy"],
            )  # fmt: skip
            if note_marks(self.state, metrics, "mIoU"):
                self._keep(self.state.notes["best"])
        return metrics

    def done(self) -> bool:
        """Whether the patience with weights that get no better is at its end."""
        return waited_enough(self.state, self.options.patience)

    def _keep(self, metrics: dict[str, float]) -> None:
        if distributed.is_main():
            save_segmenter(self.segmenter, self.folder.weights, recipe=self.options.recipe, metrics=metrics)


def make_schedule(options: SegmentationOptions) -> Schedule:
    """The learning rate as a function of images seen."""
    assert options.learning_rate is not None and options.images is not None
    warmup = options.warmup_images or 0
    return Schedule(options.learning_rate, REFERENCE_BATCH, options.images, warmup_images=warmup, shape="cosine")


def make_loader(
    options: SegmentationOptions, data: SegmentationData, step: int, device: torch.device
) -> Iterable[CropBatch]:
    """Batches from ``step`` on."""
    assert options.iterations and options.batch_size and options.crop and options.shorter and options.longer
    assert options.scales is not None
    if options.batch_size % distributed.world_size():
        raise InputError(
            f"--batch-size {options.batch_size} cannot be divided among {distributed.world_size()} processes"
        )
    planner = CropPlanner(
        data.images.annotations.sizes, options.batch_size, options.seed, side=options.crop, shorter=options.shorter,
        longer=options.longer, scales=(options.scales[0], options.scales[1]), mirrored=data.images.mirrored,
    )  # fmt: skip
    workers = choose_workers(options.workers, device, _MOST_WORKERS)
    return DataLoader(
        TrainingCrops(data, planner, distributed.rank(), distributed.world_size()),
        batch_size=None,
        sampler=range(step, options.iterations),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        # forked workers share the annotations; others would each get a copy
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )


def _wrap(options: SegmentationOptions, segmenter: Segmenter, device: torch.device) -> nn.Module:
    losses_of: nn.Module = PixelLosses(segmenter)
    if options.compile:
        losses_of.compile(fullgraph=distributed.world_size() == 1)
    if distributed.world_size() > 1:
        losses_of = nn.SyncBatchNorm.convert_sync_batchnorm(losses_of) if device.type == "cuda" else losses_of
        losses_of = DistributedDataParallel(losses_of, [device.index] if device.type == "cuda" else None)
    return losses_of
