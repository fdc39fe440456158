"""A run of a detector or a segmenter, as the training loop sees it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from backbones.batch_norm import statistics_kept
from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.keyed_random import fold
from backbones.running.learning_rate import Schedule
from backbones.running.precision import autocast
from backbones.running.run_folder import RunFolder
from backbones.running.run_options import Resolved
from backbones.running.training_loop import Job
from backbones.running.training_state import TrainingState
from detection.building import save_model
from detection.loss_counts import LossCounts, counts_of_parts
from detection.training.options import recipe_of
from detection.training.recipes import REFERENCE_BATCH
from detection.training.tasks import Losses, Task, task_of

logger = logging.getLogger("shortcut")
_STEPS_ON_DEVICE = 20


class TrainingJob(Job):
    """A run, as the training loop sees it.

    Args:
        options: resolved.
        state: with a ``Detector`` or a ``Segmenter`` as its model.
        data, val: to train on, and to choose the best weights by.
        folder: of the run.
        device: of the model.
    """

    def __init__(
        self, options: Resolved, state: TrainingState, data: Any, val: Any, folder: RunFolder, device: torch.device
    ) -> None:
        self.options, self.state, self.data, self.val, self.folder = options, state, data, val, folder
        self.device = device
        self.task: Any = task_of(options)
        self.model: Any = state.model
        self.schedule = make_schedule(options)
        self.losses_of = distributed.in_parallel(_losses_of(self.task, self.model), device, statistics=True)
        self.watch = FiniteWatch(self.task.pictures(data).annotations.names, device)

    def batches(self) -> Iterable[Any]:
        return make_loader(self.task, self.data, self.state.step, self.device)

    def train_step(self, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Forward, backward, and one step of SGD, which a loss or gradient that is not finite leaves out."""
        options, state = self.options, self.state
        torch.manual_seed(fold(options.seed, state.step, distributed.rank()))  # dropout, where a network has it
        for group in state.optimizer.param_groups:
            group["lr"] = self.schedule.at(state.step * options.batch_size, options.batch_size)
        state.optimizer.zero_grad()
        losses = self._backward(parts_of(batch, options.accumulate, self.device))
        take_step(state, self.watch, losses, batch.numbers, options.clip_norm)
        return losses, {}

    def _backward(self, parts: list[Any]) -> dict[str, Tensor]:
        """Gradients of the whole batch, part by part. Returns its losses."""
        counts = [self._counts(parts)] if len(parts) > 1 else []
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            alone = number < len(parts) and isinstance(self.losses_of, DistributedDataParallel)
            with self.losses_of.no_sync() if alone else nullcontext():  # type: ignore[operator]
                with autocast(self.device, self.options.precision):
                    targets = part.targets.with_free_slots() if self.options.compile else part.targets
                    losses = self.losses_of(part.images, targets, *counts)
                total = torch.stack(list(losses.values())).sum()
                self.state.scaler.scale(total / len(parts)).backward()
            sums = {name: loss.detach() + sums.get(name, 0) for name, loss in losses.items()}
        return {name: value / len(parts) for name, value in sums.items()}

    def _counts(self, parts: list[Any]) -> LossCounts:
        """What the whole batch's losses are divided by: every part passes the first stage once more."""
        with statistics_kept(self.model), autocast(self.device, self.options.precision):
            return counts_of_parts([self.model.loss_counts(part.images, part.targets) for part in parts])

    def evaluate(self) -> dict[str, float]:
        """Marks on the validation split; the best weights by the chosen metric are kept."""
        self.watch.ask()
        with self.state.average.applied() if self.state.average else nullcontext():
            if self.val is None:
                if self.state.step == self.options.iterations:
                    self._keep({})
                return {}
            metrics: dict[str, float] = self.task.measure(self.model, self.val)
            self._choose(metrics)
        return metrics

    def done(self) -> bool:
        """Whether the patience with weights that get no better is at its end; 0 is endless."""
        return bool(0 < self.options.patience <= self.state.notes.get("waited", 0))

    def _choose(self, metrics: dict[str, float]) -> None:
        """Keep the weights if none were better; the notes are the same on all processes."""
        options, chosen = self.options, self.options.metric
        if chosen not in ("last", *metrics):
            raise InputError(f"--metric {chosen}: the evaluation has {', '.join(metrics)}")
        shown = {**self.task.shown, **({} if chosen == "last" else {chosen: self.task.shown.get(chosen, chosen)})}
        marks = "  ".join(f"{word} {metrics[name]:.4f}" for name, word in shown.items())
        logger.info("iteration %d: %s %s %s", self.state.step, options.dataset, options.val_split, marks)
        if note_marks(self.state, metrics, chosen):
            self._keep(self.state.notes["best"])
        elif self.done():
            logger.info("%s is no better than at iteration %d for %d evaluations: the run ends here", chosen,
                        self.state.notes["best"]["step"], options.patience)  # fmt: skip

    def _keep(self, metrics: dict[str, float]) -> None:
        if distributed.is_main():
            save_model(self.model, self.folder.weights, recipe=self.options.recipe, metrics=metrics)


def _losses_of(task: Any, model: Any) -> nn.Module:
    return task.compiled(model) if task.options.compile else Losses(model)


def make_schedule(options: Resolved) -> Schedule:
    """The learning rate as a function of images seen."""
    return Schedule(
        options.learning_rate,
        REFERENCE_BATCH,
        options.images,
        milestones=options.milestones or (),
        warmup_images=options.warmup_images,
        shape=recipe_of(options).shape,
    )


def make_loader(task: Task, data: Any, step: int, device: torch.device) -> Iterable[Any]:
    """Batches from ``step`` on.

    Raises:
        InputError: the batch cannot be divided among processes and parts.
    """
    options = task.options
    distributed.require_shares(options.batch_size, options.accumulate)
    workers = distributed.choose_workers(options.workers, device, task.most_workers)
    return DataLoader(
        task.batches(data),
        batch_size=None,
        sampler=range(step, options.iterations),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        # forked workers share the annotations; others would each get a copy
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )


def parts_of(batch: Any, count: int, device: torch.device) -> list[Any]:
    """A batch on the device, cut into ``count`` equal parts of the same padded size."""
    images, targets = batch.images.to(device, non_blocking=True), batch.targets.to(device)
    share = len(batch.numbers) // count
    rows = [slice(first, first + share) for first in range(0, len(batch.numbers), share)]
    return [
        replace(batch, images=images[part], targets=targets.each(lambda tensor, part=part: tensor[part]),
                numbers=batch.numbers[part]) for part in rows
    ]  # fmt: skip


def make_sgd(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """SGD with momentum from zero, so that a first step which is left out leaves it defined."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.0, momentum=0.9, weight_decay=weight_decay, fused=True)
    for parameter in learned:
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def take_step(
    state: TrainingState, watch: FiniteWatch, losses: dict[str, Tensor], numbers: Sequence[int], clip_norm: float
) -> None:
    """One step of the optimizer, which a loss or gradient that is not finite leaves out, and of the weights' average.

    Args:
        state: with gradients, scaled as its scaler scales.
        watch: told of the step.
        losses: that the gradients are of.
        numbers: the pictures of this process.
        clip_norm: limit on the norm of the gradient; 0 for none.

    Raises:
        InputError: this step, or one since the watch last asked, was not finite.
    """
    scaled = state.scaler.is_enabled()
    if scaled:
        state.scaler.unscale_(state.optimizer)
    learned = [parameter for parameter in state.model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in learned if parameter.grad is not None])
    left_out = watch.note(state.step, losses, None if scaled else norm, numbers)
    if clip_norm:
        nn.utils.clip_grads_with_norm_(learned, clip_norm, norm)
    if not scaled:  # fp16's scaler sets the same attribute itself
        state.optimizer.found_inf = left_out  # type: ignore[attr-defined]
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average:
        state.average.update()


def note_marks(state: TrainingState, metrics: Mapping[str, float], metric: str) -> bool:
    """Whether the weights are to be kept: no earlier ones were better by ``metric``, or it is ``last``.

    The state's notes have the best marks so far, and how many evaluations have passed since.
    """
    notes = state.notes
    if metric == "last" or metrics[metric] > notes.get("best", {}).get(metric, -2.0):
        state.notes = {"best": {"step": state.step, **metrics}, "waited": 0}
        return True
    state.notes = {**notes, "waited": notes["waited"] + 1}
    return False


class FiniteWatch:
    """Losses and gradients that are no numbers: noticed, kept out of the weights, and told with their pictures.

    Remembers the last steps until it has asked the device whether they were finite.

    Asking waits for the device, so on a GPU only every 20th step asks, and the optimizer leaves steps out that are not
    finite (``found_inf``) until then: the weights stay those before the first of them.

    Args:
        names: of the pictures.
        device: of the losses.
    """

    def __init__(self, names: NDArray[Any], device: torch.device) -> None:
        self.names = names
        self.every = _STEPS_ON_DEVICE if device.type == "cuda" else 1
        self._steps: list[tuple[int, dict[str, Tensor], Tensor, Sequence[int]]] = []

    def note(self, step: int, losses: dict[str, Tensor], norm: Tensor | None, numbers: Sequence[int]) -> Tensor:
        """Take a step in before the optimizer makes it.

        Args:
            step: iterations done before it.
            losses: scalars of this process.
            norm: of the gradient, the same on all processes; None where fp16 may overflow.
            numbers: the pictures of this process.

        Returns:
            1.0 if the step must be left out, else 0.0, on the device; the same on all processes.

        Raises:
            InputError: a step was not finite; with the losses and the pictures.
        """
        total = distributed.mean_over_processes(torch.stack([loss.detach() for loss in losses.values()]).sum())
        value = total if norm is None else total + norm
        self._steps.append((step, losses, value, numbers))
        if len(self._steps) >= self.every:
            self.ask()
        return (~value.isfinite()).float()

    def ask(self) -> None:
        """Look at the steps that were noted since the last time.

        Raises:
            InputError: one was not finite.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        finite = torch.stack([value for _, _, value, _ in steps]).isfinite().tolist()
        if all(finite):
            return
        step, losses, _, numbers = steps[finite.index(False)]
        mine = {name: loss.item() for name, loss in losses.items()}
        everywhere = distributed.gather_objects((mine, [str(self.names[number]) for number in numbers]))
        bad = [part for part in everywhere if not _finite(part[0])]
        what, told = ("a loss", bad) if bad else ("the gradient", everywhere)
        shown = "; ".join(", ".join(f"{name} {value:g}" for name, value in part[0].items()) for part in told)
        images = ", ".join(name for part in told for name in part[1])
        raise InputError(
            f"iteration {step + 1}: {what} is not finite ({shown}); images: {images}; the run folder's weights are "
            "from before it; lower --learning-rate, or look at these images"
        )


def _finite(losses: dict[str, float]) -> bool:
    return all(abs(value) < float("inf") for value in losses.values())
