"""A detector's run, as the training loop sees it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
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
from detection.loss_counts import LossCounts, counts_of_parts
from detection.operators import COMPILED
from detection.targets import Targets
from detection.training.data import make_loader, parts_of
from detection.training.finite import FiniteWatch
from detection.training.options import TrainingOptions
from detection.training.recipes import REFERENCE_BATCH
from detection.training.stepping import note_marks, take_step, waited_enough

logger = logging.getLogger("shortcut")
EVALUATION_BATCH = 8


class Losses(nn.Module):
    """The detector as the module that is wrapped for several processes and compiled: (images, targets) -> losses."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, targets: Targets, counts: LossCounts | None = None) -> dict[str, Tensor]:
        return self.detector.losses(images, targets, counts)


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
        self.watch = FiniteWatch(data.annotations.names, device)

    def on_device(self) -> AbstractContextManager[None]:
        return nullcontext()

    def batches(self) -> Iterable[Batch]:
        return make_loader(self.options, self.data, self.state.step, self.device)

    def learning_rate(self) -> float:
        return float(self.state.optimizer.param_groups[0]["lr"])

    def train_step(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Forward, backward, and one step of SGD, which a loss or gradient that is not finite leaves out."""
        options, state = self.options, self.state
        assert options.batch_size is not None
        torch.manual_seed(fold(options.seed, state.step, distributed.rank()))  # dropout, where a network has it
        for group in state.optimizer.param_groups:
            group["lr"] = self.schedule.at(state.step * options.batch_size, options.batch_size)
        state.optimizer.zero_grad()
        losses = self._backward(parts_of(batch, options.accumulate, self.device))
        take_step(state, self.watch, losses, batch.numbers, options.clip_norm or 0.0)
        return losses, {}

    def _backward(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Gradients of the whole batch, part by part. Returns its losses."""
        counts = self._counts(parts) if len(parts) > 1 else None
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            alone = number < len(parts) and isinstance(self.losses_of, DistributedDataParallel)
            with self.losses_of.no_sync() if alone else nullcontext():  # type: ignore[operator]
                targets = part.targets.with_free_slots() if self.options.compile else part.targets
                with autocast(self.device, self.options.precision):
                    losses: dict[str, Tensor] = self.losses_of(part.images, targets, counts)
                total = torch.stack(list(losses.values())).sum()
                self.state.scaler.scale(total / len(parts)).backward()
            sums = {name: loss.detach() + sums.get(name, 0) for name, loss in losses.items()}
        return {name: value / len(parts) for name, value in sums.items()}

    def _counts(self, parts: list[Batch]) -> LossCounts:
        """What the whole batch's losses are divided by: every part passes the first stage once more."""
        with _statistics_kept(self.detector), autocast(self.device, self.options.precision):
            return counts_of_parts([self.detector.loss_counts(part.images, part.targets) for part in parts])

    def evaluate(self) -> dict[str, float]:
        """Marks on the validation split; the best weights by the chosen metric are kept."""
        self.watch.ask()
        with self.state.average.applied() if self.state.average else nullcontext():
            if self.val is None:
                if self.state.step == self.options.iterations:
                    self._keep({})
                return {}
            found = detect_all(self.detector.predict_each, self.val, EVALUATION_BATCH)
            marks = score(found, self.val.annotations, self.options.eval_backend) if distributed.is_main() else None
            metrics: dict[str, float] = distributed.gather_objects(marks and marks.metrics)[0]
            self._choose(metrics)
        return metrics

    def done(self) -> bool:
        """Whether the patience with weights that get no better is at its end."""
        return waited_enough(self.state, self.options.patience)

    def _choose(self, metrics: dict[str, float]) -> None:
        """Keep the weights if none were better; the notes are the same on all processes."""
        chosen = str(self.options.metric)
        newest = chosen == "last"
        if not newest and chosen not in metrics:
            raise InputError(f"--metric {chosen}: the evaluation has {', '.join(metrics)}")
        shown = dict.fromkeys(("AP", "AP50", "AP75", *([] if newest else [chosen])))
        logger.info(
            "iteration %d: %s %s %s", self.state.step, self.options.dataset, self.options.val_split,
            "  ".join(f"{name} {metrics[name]:.4f}" for name in shown),
        )  # fmt: skip
        if note_marks(self.state, metrics, chosen):
            self._keep(self.state.notes["best"])
            return
        if self.done():
            logger.info("%s is no better than at iteration %d for %d evaluations: the run ends here", chosen,
                        self.state.notes["best"]["step"], self.options.patience)  # fmt: skip

    def _keep(self, metrics: dict[str, float]) -> None:
        if distributed.is_main():
            save_detector(self.detector, self.folder.weights, recipe=self.options.recipe, metrics=metrics)


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


def compile_losses(detector: Detector, **how: Any) -> Losses:
    """The losses as one graph for each padded size, for any number of slots (``Targets.with_free_slots``).

    Sizes are not free: a graph for all of them takes minutes to trace and runs slower, and a planner of ``few_sizes``
    makes three at most.

    Args:
        detector: whose operators fit a graph (``COMPILED``).
        **how: further arguments of ``torch.nn.Module.compile``, such as ``backend``.
    """
    losses_of = Losses(detector)
    losses_of.compile(fullgraph=distributed.world_size() == 1, dynamic=False, **how)
    return losses_of


def _wrap(options: TrainingOptions, detector: Detector, device: torch.device) -> nn.Module:
    if options.compile:
        detector.operators = COMPILED
    losses_of: nn.Module = compile_losses(detector) if options.compile else Losses(detector)
    if distributed.world_size() > 1:
        if not detector.settings.frozen_norm:
            losses_of = nn.SyncBatchNorm.convert_sync_batchnorm(losses_of) if device.type == "cuda" else losses_of
        losses_of = DistributedDataParallel(losses_of, [device.index] if device.type == "cuda" else None)
    return losses_of


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch normalization normalizes as in training, and its running statistics stay."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
