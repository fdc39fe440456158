"""From options to a run folder, for every head."""

from __future__ import annotations

import logging
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.freezing import freeze_stages
from backbones.resnet import CAFFE_POOL
from backbones.running import distributed
from backbones.running.precision import choose_device, gradient_scaler, warn_of_emulation
from backbones.running.progress import start_logging
from backbones.running.resuming import open_run, options_of_run, run_outputs, saved_state
from backbones.running.run_folder import RunFolder
from backbones.running.run_options import Resolved
from backbones.running.training_loop import run_jobs
from backbones.running.training_state import TrainingState, WeightAverage, state_metadata
from backbones.weights.file_content import FileContent
from backbones.weights.published import published_name
from detection.building import describe
from detection.data.archives import download_dataset
from detection.data.splits import write_splits
from detection.detector import TrainedModel
from detection.training.job import TrainingJob, make_schedule, make_sgd
from detection.training.options import TrainingOptions, design, resolve
from detection.training.recipes import REFERENCE_BATCH
from detection.training.tasks import Task, task_of
from detection.weights import read_source

logger = logging.getLogger("shortcut")


def train(options: TrainingOptions) -> Path:
    """Train a detector or a segmenter, or go on with an interrupted run.

    Args:
        options: what ``python detection/train.py`` takes; ``None`` fields are filled by the recipe.

    Returns:
        The run folder.

    Raises:
        InputError: something given cannot be used.
        Interrupted: a signal asked to stop; the state is saved.
    """
    device = choose_device(options.device)
    with distributed.process_group(device):
        start_logging(options.quiet)
        initial, saved = None, None
        if options.resume:
            options = options_of_run(options, Path(options.resume))
            saved = saved_state(Path(str(options.resume)))
        task = task_of(options)
        weights = read_source(options.weights) if saved is None and options.weights not in (None, "none") else None
        if weights is not None and task.starts_whole(weights):
            if not options.init_from:
                initial = task.of(weights)
            options, weights = replace(options, init_from=options.init_from or options.weights, weights=None), None
        if saved is None and options.init_from and initial is None:
            initial = task.load(options.init_from)
        if not options.resume:
            options = resolve(options, initial.settings if initial else None)
            if distributed.is_main():  # before hours of reading and training
                RunFolder(Path(str(options.output))).refuse_taken(run_outputs(options))

        task = task_of(options)
        data, val = read_splits(task)
        state = prepare(task, data, device, initial, saved, weights)

        run = open_run(options)
        start_logging(options.quiet, run.log)
        warn_of_emulation(device, options.precision)
        if saved:
            logger.info("going on after iteration %d of %s", state.step, options.iterations)
        if distributed.is_main():
            run.rewind(state.step)
            splits = {str(options.split): data, str(options.val_split): val}
            write_splits(run.path, {name: task.pictures(split) for name, split in splits.items() if split})
        job = TrainingJob(options, state, data, val, run, device)
        announce(task, data, val, state.model, run)
        run_jobs([job], options, f"python detection/train.py --resume {run.path}")

        finish(task, run, val, device)
        distributed.barrier()
    return run.path


def read_splits(task: Any) -> tuple[Any, Any]:
    """What to train on, and what to choose by or None, after the data check.

    Raises:
        InputError: a split is missing or has faulty files, or there is nothing to learn in it.
    """
    options = task.options
    if options.download:
        if distributed.is_main():
            download_dataset(options.dataset, options.data_dir)
        distributed.barrier()
    data = task.read(options.split)
    return data, None if options.val_split == "none" else task.read(options.val_split, data)


def prepare(
    task: Any,
    data: Any,
    device: torch.device,
    initial: Any = None,
    saved: dict[str, Any] | None = None,
    content: FileContent | None = None,
) -> TrainingState:
    """Model and optimizer before the first step, or where a run was interrupted.

    Args:
        task: with resolved options.
        data: names the classes.
        device: where the model goes.
        initial: the model to start from, if the options name one.
        saved: the state of the interrupted run, which holds everything: no other weights are read.
        content: of the file that the options name for the backbone, if it has been read.

    Raises:
        InputError: unknown names, or weights that do not fit.
    """
    options: Resolved = task.options
    torch.manual_seed(options.seed)
    if saved is not None:
        model = task.make(task.settings_class.from_dict(state_metadata(saved, options.resume).architecture))
    else:
        settings = replace(design(options, initial and initial.settings), **task.classes_of(data))
        weights = None if initial else content or options.weights or published_name(options.backbone)
        model = task.make(settings, None if weights == "none" else weights)
        if initial is not None:
            copy_weights(initial, model, options.init_from)
    freeze_stages(model.backbone, options.freeze)
    model.precision = options.precision
    model = model.to(device).train()
    state = TrainingState(
        model,
        make_sgd(model, options.weight_decay),
        gradient_scaler(device, options.precision),
        average=WeightAverage(model, options.ema) if options.ema else None,
        about=describe(model),
    )
    if saved is not None:
        state.restore(saved, device)
    return state


_ROWS = {
    "predictor.classes": (1, 1), "predictor.deltas": (0, 4), "masks.logits": (0, 1),
    "head.classes": (0, 1), "auxiliary.classes": (0, 1),
}  # fmt: skip
"""Layers with rows for each class: how many come before the first class (a detector's background), how many each class
has. A segmenter's background is one of its classes."""
_SHOWN = 6


def copy_weights(source: TrainedModel, target: TrainedModel, origin: str) -> None:
    """Copy every tensor that fits, and of the layers with classes the rows of those that both know, in place.

    Two lines say what was taken: classes that are new or were not wanted, and tensors that did not fit.

    Args:
        source: to copy from.
        target: freshly made, for its own classes.
        origin: where ``source`` comes from, for messages.
    """
    given, wanted = source.state_dict(), target.state_dict()
    known = {name.casefold(): label for label, name in enumerate(source.classes)}
    pairs = [(known[n.casefold()], label) for label, n in enumerate(target.classes) if n.casefold() in known]
    taken = {name: tensor for name, tensor in given.items() if name.endswith(CAFFE_POOL)}
    for name, fresh in wanted.items():
        if name not in given:
            continue
        layer = name.rpartition(".")[0]
        if layer in _ROWS and given[name].shape[1:] == fresh.shape[1:]:
            taken[name] = _rows_by_class(given[name], fresh, pairs, *_ROWS[layer])
        elif layer not in _ROWS and given[name].shape == fresh.shape:
            taken[name] = given[name]
    target.load_state_dict(taken, strict=False)
    left = [n for n in (wanted | given) if n not in taken and not n.endswith("num_batches_tracked")]
    logger.info(
        "weights: %d of %d tensors from %s%s", len(taken), len(taken) + len(left), origin,
        f"; not taken: {_listed(left)}" if left else "",
    )  # fmt: skip
    fresh_classes = [name for name in target.classes if name.casefold() not in known]
    logger.info(
        "classes: %d of %d are known to it%s", len(pairs), len(target.classes),
        f"; new: {_listed(fresh_classes)}" if fresh_classes else "",
    )  # fmt: skip


def _rows_by_class(given: Tensor, fresh: Tensor, pairs: list[tuple[int, int]], before: int, each: int) -> Tensor:
    rows = fresh.clone()
    rows[:before] = given[:before]
    for theirs, ours in pairs:
        rows[before + ours * each : before + (ours + 1) * each] = given[before + theirs * each :][:each]
    return torch.as_tensor(rows)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def announce(task: Any, data: Any, val: Any, model: torch.nn.Module, run: RunFolder) -> None:
    """Log data, model, and the batch and learning rate as they are used."""
    options: Resolved = task.options
    about_data, about_model = task.describe(data, model)
    chosen = f"{options.metric} on {len(val)} images" if val and options.metric != "last" else "nothing"
    learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    schedule, batch, passes = make_schedule(options), options.batch_size, options.images / len(data)
    logger.info("run folder: %s", run.path)
    logger.info("data: %s, %d images, %s; choosing by %s", task.pictures(data).name, len(data), about_data, chosen)
    logger.info("model: %s, %.1f M learned parameters; recipe %s", about_model, learned / 1e6, options.recipe)
    logger.info(
        "learning rate: %.4g (%.4g for %d images, scaled to %d); %s iterations, %s images, %.3g passes over the data",
        schedule.scaled_peak(batch), schedule.peak, REFERENCE_BATCH, batch, options.iterations, options.images, passes,
    )  # fmt: skip
    if options.accumulate > 1:
        logger.info("batch: %d images, computed in %d parts", batch, options.accumulate)
    if options.ema:
        logger.info("evaluated and kept: the moving average of the weights, decay %g", options.ema)
    if passes > task.many_passes:
        logger.warning(
            "recipe %s sees each of these %d images %d times; --recipe quick is made for a few hundred",
            options.recipe, len(data), passes,
        )  # fmt: skip


def finish(task: Task, run: RunFolder, val: Any, device: torch.device) -> None:
    """Score the kept weights once more, and say what can be done with them.

    Args:
        task: with resolved options.
        run: with weights.
        val: what they were chosen by; without it only the weights are there.
        device: to score on.
    """
    options: Resolved = task.options
    marks: dict[str, float] = {}
    if val is not None:
        model: Any = task.load(run.path, str(device))
        model.precision = options.precision
        marks = task.report(model, run, val)
    if not distributed.is_main():
        return
    if val is None:
        run.write_metrics({})
    else:
        shown = ", ".join(f"{name} {marks[name]:.4f}" for name in task.reported if name in marks)
        logger.info("%s %s: %s", options.dataset, options.val_split, shown)
    logger.info("weights: %s%s", run.weights, f"   report: {run.report}" if run.report.exists() else "")
    path, dataset = shlex.quote(str(run.path)), shlex.quote(options.dataset)
    place = f" --data-dir {shlex.quote(options.data_dir)}" if options.data_dir else ""
    split = "test" if options.val_split == "none" else options.val_split
    logger.info(
        "next:\n  %s\n  %s\n  %s",
        f"python detection/evaluate.py --model {path} --dataset {dataset} --split {split}{place}",
        f"python detection/predict.py --model {path} PICTURES --output found",
        f"python deploy/export.py --model {path} --format onnx",
    )
