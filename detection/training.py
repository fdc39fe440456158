"""The training loop of detectors."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.keyed_random import fold
from backbones.running.learning_rate import Schedule
from backbones.running.precision import autocast, choose_device, gradient_scaler, warn_of_emulation
from backbones.running.progress import start_logging
from backbones.running.resuming import open_run, options_of_run
from backbones.running.run_folder import RunFolder
from backbones.running.training_loop import Pace, run_jobs
from backbones.running.training_state import TrainingState
from detection.building import build_detector, freeze_stages, load_detector, save_detector
from detection.data.annotations import DetectionData
from detection.data.batches import Batch, TrainingBatches
from detection.data.datasets import read_dataset
from detection.data.faults import refuse_faulty_files
from detection.data.plan import BatchPlanner
from detection.detector import Detector
from detection.evaluation import Evaluation, detect_all, score
from detection.operators import COMPILED
from detection.report import write_report
from detection.settings import (
    AnchorSettings,
    DetectorSettings,
    InputSettings,
    ProposalSettings,
    default_settings,
)
from detection.targets import Targets
from detection.training_options import TrainingOptions, resolve

logger = logging.getLogger("shortcut")
REFERENCE_BATCH = 16
_EVALUATION_BATCH = 8


class Losses(nn.Module):
    """The detector as the module that is wrapped for several processes and compiled: (images, targets) -> losses."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        return self.detector.losses(images, targets)


def train(options: TrainingOptions) -> Path:
    """Train a detector, or go on with an interrupted run.

    Args:
        options: what ``python detection/train.py`` takes; ``None`` fields are filled by the recipe.

    Returns:
        The run folder.

    Raises:
        InputError: something given cannot be used.
        Interrupted: a signal asked to stop; the state is saved.
    """
    device = choose_device(options.device)
    with ExitStack() as stack:
        stack.enter_context(distributed.process_group(device))
        start_logging(options.quiet)
        options = options_of_run(options, Path(options.resume)) if options.resume else resolve(options)
        data, val = _read_data(options)
        state = _prepare(options, data, device)
        run = open_run(options)
        start_logging(options.quiet, run.log)
        warn_of_emulation(device, options.precision)
        if run.state.exists():
            state.load(run.state, device)
            logger.info("going on after iteration %d of %s", state.step, options.iterations)
        if distributed.is_main():
            run.rewind(state.step)
        _announce(options, data, val, state.model, run)
        job = DetectionJob(options, state, data, val, run, device)
        resume = f"python detection/train.py --resume {run.path}"
        run_jobs([job], _pace(options), resume=resume, quiet=options.quiet, tensorboard=options.tensorboard)
        _finish(options, run, val, device)
        distributed.barrier()
    return run.path


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
        return _loader(self.options, self.data, self.state.step, self.device)

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
        found = detect_all(self.detector.predict_each, self.val, _EVALUATION_BATCH)
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


def _pace(options: TrainingOptions) -> Pace:
    assert options.iterations is not None and options.batch_size is not None
    return Pace(
        options.iterations, options.batch_size, options.log_every, options.evaluate_every, options.checkpoint_every
    )


def make_settings(options: TrainingOptions, data: DetectionData) -> DetectorSettings:
    """The detector that resolved options describe."""
    assert options.head and options.test_shorter and options.longer and options.anchor_sizes
    sizes = options.anchor_sizes
    base = default_settings(options.backbone, data.annotations.classes, options.head)
    changes: dict[str, Any] = {
        "category_ids": data.annotations.category_ids,
        "input": InputSettings(options.test_shorter, options.longer),
        "anchors": AnchorSettings((sizes,) if options.head == "c4" else tuple((size,) for size in sizes)),
        "frozen_norm": options.batch_norm == "frozen",
        "train_proposals": ProposalSettings(
            min(base.train_proposals.before_nms, 2 * (options.train_proposals or 0)), options.train_proposals or 0
        ),
        "test_proposals": ProposalSettings(
            min(base.test_proposals.before_nms, 2 * (options.test_proposals or 0)), options.test_proposals or 0
        ),
        "roi_sampling": replace(base.roi_sampling, count=options.region_samples or 0),
    }
    if options.head == "fpn":
        changes |= {"channels": options.channels, "vector": options.vector}
    return replace(base, **changes)


def _read_data(options: TrainingOptions) -> tuple[DetectionData, DetectionData | None]:
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


def _prepare(options: TrainingOptions, data: DetectionData, device: torch.device) -> TrainingState:
    """Model and optimizer before the first step."""
    torch.manual_seed(options.seed)
    weights = options.weights if options.weights is not None else f"torchvision://{options.backbone}"
    detector = build_detector(make_settings(options, data), None if weights == "none" else weights)
    freeze_stages(detector, options.freeze or 0)
    detector.precision = options.precision
    detector = detector.to(device).train()
    learned = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.0, momentum=0.9, weight_decay=options.weight_decay, fused=True)
    return TrainingState(detector, optimizer, gradient_scaler(device, options.precision))


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


def _loader(options: TrainingOptions, data: DetectionData, step: int, device: torch.device) -> Iterable[Batch]:
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


def _announce(
    options: TrainingOptions, data: DetectionData, val: DetectionData | None, detector: nn.Module, run: RunFolder
) -> None:
    assert options.batch_size is not None
    schedule = make_schedule(options)
    learned = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    objects = len(data.annotations.objects.labels)
    logger.info("run folder: %s", run.path)
    logger.info(
        "data: %s, %d images, %d objects, %d classes; choosing by %s",
        data.name, len(data), objects, len(data.annotations.classes), f"{len(val)} images" if val else "nothing",
    )  # fmt: skip
    logger.info("model: %s %s, %.1f M learned parameters", options.backbone, str(options.head).upper(), learned / 1e6)
    logger.info(
        "learning rate: %.4g (%.4g for %d images, scaled to %d); %s iterations, %s images",
        schedule.scaled_peak(options.batch_size), schedule.peak, REFERENCE_BATCH, options.batch_size,
        options.iterations, options.images,
    )  # fmt: skip


def _finish(options: TrainingOptions, run: RunFolder, val: DetectionData | None, device: torch.device) -> None:
    """Score the kept weights once more, and write metrics and report."""
    if val is None:
        if distributed.is_main():
            run.write_metrics({})
        return
    detector = load_detector(run.path, str(device))
    detector.precision = options.precision
    found = detect_all(detector.predict_each, val, _EVALUATION_BATCH)
    if not distributed.is_main():
        return
    evaluation: Evaluation = score(found, val.annotations)
    metrics = evaluation.metrics
    run.write_metrics({"split": options.val_split, **metrics, "per_class": evaluation.per_class})
    facts = {name: value for name, value in dataclasses.asdict(options).items() if value not in (None, "", False)}
    title = f"{options.backbone} {detector.settings.head.upper()} on {options.dataset}"
    write_report(run.report, title, evaluation, found, val, run.read_records(), facts)
    logger.info("%s %s: AP %.4f, AP50 %.4f", options.dataset, options.val_split, metrics["AP"], metrics["AP50"])
    logger.info("weights: %s   report: %s", run.weights, run.report)
