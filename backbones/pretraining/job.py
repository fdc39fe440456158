"""One pretraining run, as the training loop sees it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backbones.classifier import Classifier
from backbones.data.order import EndlessOrder
from backbones.errors import InputError
from backbones.evaluation import ErrorRates, rates_of
from backbones.normalization import Normalize
from backbones.pretraining.data import SIDE, Datasets
from backbones.pretraining.graph_steps import GraphSteps, ImagePool
from backbones.pretraining.options import TrainingOptions
from backbones.pretraining.recipes import find_recipe
from backbones.pretraining.steps import (
    BatchPlan,
    DeviceData,
    EagerSteps,
    Learner,
    Means,
    StreamedSteps,
    SyntheticSteps,
    logits_of,
)
from backbones.pretraining.streams import CentralCrops, TrainingStream
from backbones.report import write_report
from backbones.running import distributed
from backbones.running.learning_rate import Observed, Schedule
from backbones.running.resuming import saved_state
from backbones.running.run_folder import RunFolder
from backbones.running.run_options import Resolved, as_facts
from backbones.running.training_loop import Job
from backbones.running.training_state import TrainingState
from backbones.weights import save_weights

logger = logging.getLogger("shortcut")
WARMUP_ERROR, WARMUP_WINDOW = 80.0, 100
"""Section 4.2 ends the warm-up of 110 layers when the training error is below 80 %: here, its mean over 100 steps."""
_EVALUATION_BATCH, _BATCH_IN_MEMORY = 64, 2000


class DataOnDevice:
    """Both splits where the steps find them; what all seeds share."""

    def __init__(self, datasets: Datasets, device: torch.device) -> None:
        self.datasets, self.device = datasets, device
        self.train = DeviceData.of(datasets.train, device) if datasets.in_memory else None
        self.val = DeviceData.of(datasets.val, device) if datasets.in_memory else None
        self._pools: dict[torch.dtype, ImagePool] = {}

    def pool(self, normalize: Normalize, precision: str) -> ImagePool:
        """All training pictures, normalized and padded."""
        assert self.train is not None
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        if dtype not in self._pools:
            self._pools[dtype] = ImagePool(self.train, normalize, dtype)
        return self._pools[dtype]


Steps = EagerSteps | GraphSteps | StreamedSteps | SyntheticSteps


class PretrainingJob(Job):
    """One run, as the training loop sees it.

    Args:
        options: resolved.
        state: with a ``Classifier`` as its model.
        on_device: the data.
        folder: of the run.
    """

    def __init__(self, options: Resolved, state: TrainingState, on_device: DataOnDevice, folder: RunFolder) -> None:
        assert isinstance(state.model, Classifier)
        self.options, self.state, self.data, self.folder = options, state, on_device, folder
        self.device, self.batch_size = on_device.device, options.batch_size
        self.model = state.model
        self.recipe = find_recipe(options.recipe, options.arch)
        self.schedule = make_schedule(options)
        self.rate, self.begun = 0.0, 0.0
        self.steps = self._make_steps()

    def restore(self) -> None:
        """Go on from the folder's state, if it has one."""
        if saved := saved_state(self.folder.path):
            self.state.restore(saved, self.device)
            logger.info("going on after iteration %d of %s", self.state.step, self.options.iterations)
        if distributed.is_main():
            self.folder.rewind(self.state.step)
        self.model.train()
        self.begun = time.monotonic() - float(self.state.notes.get("seconds", 0.0))

    def on_device(self) -> AbstractContextManager[Any]:
        return self.steps.on_device() if isinstance(self.steps, GraphSteps) else nullcontext()

    def batches(self) -> Iterable[Any]:
        return self.steps.batches(self.state.step, self.options.iterations)

    def learning_rate(self) -> float:
        return self.rate

    def train_step(self, batch: Any) -> tuple[Means, Means]:
        """One step of SGD at the rate of the schedule."""
        self.state.notes["seconds"] = time.monotonic() - self.begun
        self.rate = self.schedule.at(self.state.step * self.batch_size, self.batch_size, self.observed())
        losses, others = self.steps(batch, self.rate)
        if self.schedule.error_warmup is not None and self.state.notes.get("warmup_end") is None:
            self._watch_warmup(others["train_error"])
        return losses, others

    def observed(self) -> Observed:
        """What the learning rate depends on besides the step."""
        notes = self.state.notes
        return Observed(notes.get("warmup_end"), tuple(notes.get("errors", ())))

    def evaluate(self) -> dict[str, float]:
        """Error rates on the validation split."""
        rates = self._rates()[0]
        self.state.notes["errors"] = [*self.state.notes.get("errors", ()), rates.top1]
        logger.info("iteration %d: %s top-1 error %.2f %%", self.state.step, self.options.val_split, rates.top1)
        return rates.as_metrics()

    def finish(self) -> None:
        """Write weights, metrics and report."""
        options, normalize = self.options, self.model.normalize
        rates, scores = self._rates()
        if not distributed.is_main():
            return
        records = self.folder.read_records()
        last: dict[str, Any] = next((record for record in reversed(records) if "train_error" in record), {})
        metrics = {
            "split": options.val_split, "protocol": "center", "images": rates.images, **rates.as_metrics(),
            "train_error": last.get("train_error"), "seconds": round(self.state.notes.get("seconds", 0.0), 1),
        }  # fmt: skip
        save_weights(
            self.model.network, self.folder.weights, options.arch,
            convention=normalize.convention, classes=self.model.classes,
            mean_image=normalize.mean if normalize.mean.shape[1:] != (1, 1) else None,
            recipe=options.recipe, metrics=rates.as_metrics(),
        )  # fmt: skip
        self.folder.write_metrics(metrics)
        if len(scores) == len(self.data.datasets.val.labels):
            title = f"{options.arch} on {options.dataset}"
            write_report(self.folder.report, title, records, as_facts(options), scores.numpy(), self.data.datasets.val)
        logger.info("%s %s: top-1 error %.2f %%; weights: %s", options.dataset, options.val_split, rates.top1,
                    self.folder.weights)  # fmt: skip

    def _make_steps(self) -> Steps:
        """The way this run's steps are made."""
        options, datasets, device = self.options, self.data.datasets, self.device
        learner = Learner(
            _wrap(self.model, options, device), self.state.optimizer, self.state.scaler, options.precision,
            self.recipe.label_smoothing,
        )  # fmt: skip
        if options.synthetic:
            share = self.batch_size // distributed.world_size()
            shape = (share, 3, *datasets.train.images.shape[1:3])
            return SyntheticSteps(learner, shape, len(datasets.classes), device)
        order = EndlessOrder(len(datasets.train.labels), options.seed)
        if not datasets.in_memory:
            stream = TrainingStream(
                datasets.train, order, self.batch_size, options.seed, SIDE,
                "resized-crop" if self.recipe.augmentation == "resized-crop" else "scale-jitter",
            )  # fmt: skip
            return StreamedSteps(
                learner, self.model.normalize, stream,
                lighting=self.recipe.lighting, workers=distributed.choose_workers(options.workers, device),
                device=device,
            )  # fmt: skip
        assert self.data.train is not None
        plan = BatchPlan(order, self.batch_size, options.seed)
        if choose_engine(options, device) == "graph":
            stream_ = torch.cuda.Stream(device) if device.type == "cuda" else None
            return GraphSteps(learner, self.data.pool(self.model.normalize, options.precision), plan, stream_)
        return EagerSteps(learner, self.model.normalize, self.data.train, plan)

    def _watch_warmup(self, error: Tensor) -> None:
        """Section 4.2: 0.01 until the training error is below 80 %. The device is asked once in 100 steps."""
        notes, done = self.state.notes, self.state.step + 1
        error = distributed.mean_over_processes(error)  # a checkpoint holds one window for all processes
        notes["window"] = error + notes["window"].to(self.device) if "window" in notes else error.clone()
        if done % WARMUP_WINDOW:
            return
        mean = float(notes.pop("window")) / WARMUP_WINDOW
        if mean < WARMUP_ERROR:
            notes["warmup_end"] = done * self.batch_size
            logger.info("iteration %d: training error %.1f %%, the warm-up ends", done, mean)

    def _rates(self) -> tuple[ErrorRates, Tensor]:
        """On the validation split: rates, the same on all processes, and the logits [N, K] that gave them."""
        options, val = self.options, self.data.datasets.val
        if self.data.val is None:  # each process scores a contiguous share, every picture once
            distributed.copy_from_main(self.model.buffers())  # batch-norm statistics differ between processes
            share = distributed.share_of(len(val.labels))
            crops = CentralCrops(val, share, self.model.convention, _EVALUATION_BATCH)
            loader = crops.loader(distributed.choose_workers(options.workers, self.device))
            batches = (pixels.permute(0, 3, 1, 2) for pixels, _ in loader)
            found = distributed.gather_objects(logits_of(self.model, batches, self.device, options.precision))
            scores = torch.cat(found)
        else:
            batches = iter(self.data.val.pixels.split(_BATCH_IN_MEMORY))
            scores = logits_of(self.model, batches, self.device, options.precision)
        rates = rates_of(scores.numpy(), np.asarray(val.labels))
        return distributed.gather_objects(rates)[0], scores


def choose_engine(options: TrainingOptions, device: torch.device) -> str:
    """How steps on data in memory are made.

    Raises:
        InputError: what is asked for does not work together.
    """
    reason = "fp16 scales its losses by what the host sees" if options.precision == "fp16" else ""
    reason = reason or ("several processes exchange gradients" if distributed.world_size() > 1 else "")
    if options.engine == "graph" and reason:
        raise InputError(f"--engine graph: {reason}; use --engine eager")
    if options.engine != "auto":
        return options.engine
    return "graph" if device.type == "cuda" and not reason else "eager"


def make_schedule(options: Resolved) -> Schedule:
    """The learning rate of resolved options, as a function of images seen and of the run's own errors."""
    recipe = find_recipe(options.recipe, options.arch)
    images = options.iterations * options.batch_size
    return Schedule(
        options.learning_rate,
        recipe.batch_size,
        images,
        milestones=options.milestones or (),
        warmup_images=min(recipe.warmup_images, images // 4),
        shape=options.schedule,
        error_warmup=recipe.error_warmup,
    )


def _wrap(model: Classifier, options: TrainingOptions, device: torch.device) -> nn.Module:
    network: nn.Module = model.network
    if options.compile:
        network.compile()
    return distributed.in_parallel(network, device)
