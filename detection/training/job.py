"""A detector's run, as the training loop sees it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.keyed_random import fold
from backbones.running.learning_rate import Schedule
from backbones.running.precision import autocast
from backbones.running.run_folder import RunFolder
from backbones.running.training_state import TrainingState
from detection.building import save_detector
from detection.data.annotations import DetectionData
from detection.data.batches import Batch
from detection.detector import Detector
from detection.evaluation import detect_all, score
from detection.operators import COMPILED
from detection.targets import Targets
from detection.training.data import make_loader
from detection.training.options import TrainingOptions

logger = logging.getLogger("shortcut")
REFERENCE_BATCH = 16
EVALUATION_BATCH = 8


class Losses(nn.Module):
    """The detector as the module that is wrapped for several processes and compiled: (images, targets) -> losses."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        return self.detector.losses(images, targets)


class DetectionJob:
    """A detector's run, as the training loop sees it.

    Args:
        options: resolved.
        state: with a ``Detector`` as its model.
        data, val: to train on, and to choose the best weights by.
        folder: of the run.
        device: of the model.
    """

    def __init__(
        self,
        options: TrainingOptions,
        state: TrainingState,
        data: DetectionData,
        val: DetectionData | None,
        folder: RunFolder,
        device: torch.device,
    ) -> None:
        assert isinstance(state.model, Detector)
        self.options, self.state, self.data, self.val, self.folder = options, state, data, val, folder
        self.device = device
        self.detector = state.model
        self.schedule = make_schedule(options)
        self.losses_of = _wrap(options, self.detector, device)

    def on_device(self) -> AbstractContextManager[None]:
        return nullcontext()

    def batches(self) -> Iterable[Batch]:
        return make_loader(self.options, self.data, self.state.step, self.device)

    def learning_rate(self) -> float:
        return float(self.state.optimizer.param_groups[0]["lr"])

    def train_step(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Forward, backward, and one step of SGD."""
        options, state = self.options, self.state
        assert options.batch_size is not None
        torch.manual_seed(fold(options.seed, state.step, distributed.rank()))  # dropout, where a network has it
        for group in state.optimizer.param_groups:
            group["lr"] = self.schedule.at(state.step * options.batch_size, options.batch_size)
        targets = batch.targets.to(self.device)
        with autocast(self.device, options.precision):
            losses: dict[str, Tensor] = self.losses_of(batch.images.to(self.device, non_blocking=True), targets)
        state.optimizer.zero_grad()
        state.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        if options.clip_norm:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(self.detector.parameters(), options.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        check_finite(losses, batch, self.data, state.step)
        return losses, {}

    def evaluate(self) -> dict[str, float]:
        """Marks on the validation split; the best weights by AP are kept."""
        if self.val is None:
            if self.state.step == self.options.iterations and distributed.is_main():
                save_detector(self.detector, self.folder.weights, recipe=self.options.recipe, metrics={})
            return {}
        found = detect_all(self.detector.predict_each, self.val, EVALUATION_BATCH)
        if not distributed.is_main():
            return {}
        metrics = score(found, self.val.annotations, self.options.eval_backend).metrics
        logger.info(
            "iteration %d: %s %s AP %.4f  AP50 %.4f  AP75 %.4f", self.state.step, self.options.dataset,
            self.options.val_split, metrics["AP"], metrics["AP50"], metrics["AP75"],
        )  # fmt: skip
        if metrics["AP"] > self.state.notes.get("AP", -2.0):
            self.state.notes = {"step": self.state.step, **metrics}
            save_detector(self.detector, self.folder.weights, recipe=self.options.recipe, metrics=self.state.notes)
        return metrics


def _wrap(options: TrainingOptions, detector: Detector, device: torch.device) -> nn.Module:
    losses_of: nn.Module = Losses(detector)
    if options.compile:
        detector.operators = COMPILED
        losses_of.compile(fullgraph=distributed.world_size() == 1)
    if distributed.world_size() > 1:
        if not detector.settings.frozen_norm:
            losses_of = nn.SyncBatchNorm.convert_sync_batchnorm(losses_of) if device.type == "cuda" else losses_of
        losses_of = DistributedDataParallel(losses_of, [device.index] if device.type == "cuda" else None)
    return losses_of


def check_finite(losses: dict[str, Tensor], batch: Batch, data: DetectionData, step: int) -> None:
    """Stop at the first loss that is not a number, while the last good weights are still on disk.

    On a GPU only every 20th step asks, since asking waits for the device.

    Raises:
        InputError: with the losses and the images of the batch.
    """
    if next(iter(losses.values())).is_cuda and step % 20:
        return
    values = {name: loss.item() for name, loss in losses.items()}
    if all(abs(value) < float("inf") for value in values.values()):
        return
    shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
    images = ", ".join(str(data.annotations.names[number]) for number in batch.numbers)
    raise InputError(f"iteration {step + 1}: a loss is not finite ({shown}); images: {images}; lower --learning-rate")


def make_schedule(options: TrainingOptions) -> Schedule:
    """The learning rate as a function of images seen."""
    assert options.learning_rate is not None and options.images is not None
    return Schedule(
        options.learning_rate,
        REFERENCE_BATCH,
        options.images,
        milestones=options.milestones or (),
        warmup_images=options.warmup_images or 0,
    )
