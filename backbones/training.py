"""The training loop of classification networks whose data fits in memory (section 4.2)."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from backbones.augmentation import crop_and_mirror
from backbones.building import build_backbone
from backbones.classifier import Classifier
from backbones.convention import InputConvention
from backbones.data.arrays import LabelledImages
from backbones.data.digits import digits_classification
from backbones.data.order import EndlessOrder
from backbones.evaluation import ErrorRates, error_rates
from backbones.normalization import Normalize
from backbones.recipes import find_recipe
from backbones.running.checkpoint import load_checkpoint, save_checkpoint
from backbones.running.command_line import Interrupted, as_plain_values
from backbones.running.interrupts import noticing_interrupts
from backbones.running.keyed_random import fold, uniform
from backbones.running.learning_rate import Schedule
from backbones.running.meter import Meter
from backbones.running.precision import autocast, choose_device, gradient_scaler, warn_of_emulation
from backbones.running.progress import Progress, progress, start_logging
from backbones.running.run_folder import RunFolder
from backbones.running.tensorboard import ScalarWriter
from backbones.training_options import TrainingOptions, resolve
from backbones.weights import load_weights, save_weights

logger = logging.getLogger("shortcut")


@dataclass
class TrainingState:
    """What changes while a run goes on; a checkpoint holds all of it."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    meter: Meter = field(default_factory=Meter)
    step: int = 0

    def save(self, path: Path) -> None:
        """Write everything, atomically."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "meter": self.meter.state(),
            "step": self.step,
        }
        save_checkpoint(path, state)

    def load(self, path: Path, device: torch.device) -> None:
        """The inverse of ``save``."""
        state = load_checkpoint(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.meter.restore(state["meter"], device)
        self.step = state["step"]


@dataclass(frozen=True)
class DeviceData:
    """Labelled images on the device: pixels [N, 3, H, W] uint8, labels [N]."""

    pixels: Tensor
    labels: Tensor
    mirrored: bool

    @classmethod
    def of(cls, data: LabelledImages, device: torch.device) -> DeviceData:
        pixels = torch.from_numpy(data.images).permute(0, 3, 1, 2).contiguous()
        return cls(pixels.to(device), torch.from_numpy(data.labels).to(device), data.mirrored)


def train(options: TrainingOptions) -> Path:
    """Train a network, or go on with an interrupted run.

    Args:
        options: what ``python backbones/train.py`` takes; ``None`` fields are filled by the recipe.

    Returns:
        The run folder.

    Raises:
        InputError: something given cannot be used.
        Interrupted: a signal asked to stop; the state is saved.
    """
    device = choose_device(options.device)
    with ExitStack() as stack:
        start_logging(options.quiet)
        options = _options_of_run(options) if options.resume else resolve(options)
        data, val = (digits_classification(split) for split in (options.split, options.val_split))
        state = _prepare(options, data, device)
        run = _open_run(options)
        start_logging(options.quiet, run.log)
        warn_of_emulation(device, options.precision)
        if run.state.exists():
            state.load(run.state, device)
            logger.info("going on after iteration %d of %s", state.step, options.iterations)
        run.rewind(state.step)
        logger.info("run folder: %s", run.path)
        logger.info("data: %s, %d images of %d x %d, %d classes", options.dataset, len(data.labels),
                    *data.images.shape[1:3], len(data.classes))  # fmt: skip
        logger.info("learning rate: %.4g for batches of %s; %s iterations",
                    make_schedule(options).scaled_peak(options.batch_size or 0), options.batch_size,
                    options.iterations)  # fmt: skip
        interrupted = stack.enter_context(noticing_interrupts())
        bar = stack.enter_context(progress("training", options.iterations or 0, state.step, options.quiet))
        _run(options, state, DeviceData.of(data, device), DeviceData.of(val, device), run, interrupted, bar)
        _finish(options, state, val, run, device)
    return run.path


def _run(
    options: TrainingOptions,
    state: TrainingState,
    data: DeviceData,
    val: DeviceData,
    run: RunFolder,
    interrupted: Any,
    bar: Progress,
) -> None:
    """The loop: one step, one log line, one evaluation, one saved state at a time."""
    assert options.iterations is not None and options.batch_size is not None
    schedule, order = make_schedule(options), EndlessOrder(len(data.labels), options.seed)
    writer = ScalarWriter(run.path, options.tensorboard)
    while state.step < options.iterations:
        chosen = order.at(state.step * options.batch_size, options.batch_size)
        rate = schedule.at(state.step * options.batch_size, options.batch_size)
        state.meter.add(train_step(state, data, chosen, rate, options))
        state.step += 1
        bar.advance()
        last = state.step == options.iterations
        if state.step % options.log_every == 0 or last:
            losses, clock = state.meter.read(options.batch_size)
            run.record({"step": state.step, "learning_rate": rate, **losses, "time": clock})
            writer.write(state.step, {**losses, "learning_rate": rate, **clock})
            bar.report(f"loss {losses['loss']:.4f}  rate {rate:.4g}  {clock['images_per_second']:.0f} images/s")
        if state.step % options.evaluate_every == 0 or last:
            rates = error_rates(state.model, val.pixels, val.labels, options.precision)
            run.record({"step": state.step, **rates.as_metrics()})
            writer.write(state.step, rates.as_metrics())
            logger.info("iteration %d: %s top-1 error %.2f %%", state.step, options.val_split, rates.top1)
        stop = interrupted()
        if state.step % options.checkpoint_every == 0 or last or stop:
            state.save(run.state)
        if stop and not last:
            raise Interrupted(f"go on with: python backbones/train.py --resume {run.path}")


def train_step(
    state: TrainingState, data: DeviceData, chosen: np.ndarray, rate: float, options: TrainingOptions
) -> dict[str, Tensor]:
    """Normalize, augment, forward, backward, and one step of SGD, without waiting for the device."""
    device = data.labels.device
    index = torch.from_numpy(chosen).to(device, non_blocking=True)
    key = torch.tensor([fold(options.seed, state.step)], device=device)
    draws = uniform(key, torch.arange(3 * len(chosen), device=device)).reshape(-1, 3)
    images = crop_and_mirror(state.model.normalize(data.pixels[index]), draws, data.mirrored)
    images = images.contiguous(memory_format=torch.channels_last)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    with autocast(device, options.precision):
        logits = state.model.train().network(images)
    loss = functional.cross_entropy(logits.float(), data.labels[index])
    state.optimizer.zero_grad()
    state.scaler.scale(loss).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return {"cross_entropy": loss}


def make_schedule(options: TrainingOptions) -> Schedule:
    """The learning rate as a function of images seen."""
    assert options.learning_rate is not None and options.iterations is not None and options.batch_size is not None
    recipe = find_recipe(options.recipe)
    images = options.iterations * options.batch_size
    return Schedule(
        options.learning_rate,
        recipe.batch_size,
        images,
        milestones=recipe.milestones,
        warmup_images=min(recipe.warmup_images, images // 4),
        shape=recipe.shape,
    )


def measure_convention(data: LabelledImages, per_pixel: bool) -> tuple[InputConvention, Tensor | None]:
    """The normalization of a training set: its mean picture, or mean and deviation of each channel.

    The paper subtracts the per-pixel mean and does not divide (sections 3.4 and 4.2).
    """
    pixels = data.images.astype(np.float64)
    size = (data.images.shape[1], data.images.shape[2])
    mean = [float(value) for value in pixels.mean((0, 1, 2))]
    std = [1.0, 1.0, 1.0] if per_pixel else [float(value) for value in pixels.std((0, 1, 2))]
    convention = InputConvention((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), size=size)
    picture = torch.from_numpy(pixels.mean(0)).permute(2, 0, 1).float() if per_pixel else None
    return convention, picture


def _options_of_run(options: TrainingOptions) -> TrainingOptions:
    """The options that the run to resume was started with; what belongs to the machine may differ."""
    assert options.resume is not None
    saved = RunFolder.reopen(Path(options.resume)).read_config()
    kept = {name: getattr(options, name) for name in ("device", "quiet", "debug", "resume", "tensorboard")}
    return TrainingOptions(**{**saved, **kept})


def _open_run(options: TrainingOptions) -> RunFolder:
    if options.resume:
        run = RunFolder(Path(options.resume))
        run.remove_leftovers()
        return run
    assert options.output is not None
    config = {name: value for name, value in as_plain_values(options).items() if name != "resume"}
    return RunFolder.create(Path(options.output), config)


def _prepare(options: TrainingOptions, data: LabelledImages, device: torch.device) -> TrainingState:
    """Model and optimizer before the first step."""
    recipe = find_recipe(options.recipe)
    torch.manual_seed(options.seed)
    network = build_backbone(options.arch, len(data.classes))
    convention, picture = measure_convention(data, recipe.per_pixel_mean)
    if options.weights:
        load_weights(network, options.weights)
    model = Classifier(options.arch, network, Normalize(convention, picture), data.classes).to(device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )
    return TrainingState(model, optimizer, gradient_scaler(device, options.precision))


def _finish(
    options: TrainingOptions, state: TrainingState, val: LabelledImages, run: RunFolder, device: torch.device
) -> None:
    """Write weights and metrics."""
    on_device = DeviceData.of(val, device)
    rates: ErrorRates = error_rates(state.model, on_device.pixels, on_device.labels, options.precision)
    normalize = state.model.normalize
    save_weights(
        state.model.network, run.weights, options.arch,
        convention=normalize.convention, classes=state.model.classes,
        mean_image=normalize.mean if normalize.mean.shape[1:] != (1, 1) else None,
        recipe=options.recipe, metrics=rates.as_metrics(),
    )  # fmt: skip
    run.write_metrics({"split": options.val_split, **rates.as_metrics()})
    logger.info("%s %s: top-1 error %.2f %%; weights: %s", options.dataset, options.val_split, rates.top1, run.weights)
