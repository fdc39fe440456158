"""From options to a run folder with a trained segmenter."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.checkpoint import load_checkpoint
from backbones.running.precision import choose_device, warn_of_emulation
from backbones.running.progress import start_logging
from backbones.running.resuming import open_run, options_of_run
from backbones.running.run_folder import RunFolder
from backbones.running.training_loop import Pace, run_jobs
from detection.data.archives import download_dataset
from detection.data.splits import write_splits
from detection.segmentation.building import load_segmenter
from detection.segmentation.datasets import read_segmentation, refuse_faulty_labels
from detection.segmentation.evaluation import evaluate_segmenter
from detection.segmentation.job import EVALUATION_BATCH, SegmentationJob, make_schedule
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.options import SegmentationOptions, resolve
from detection.segmentation.recipes import REFERENCE_BATCH
from detection.segmentation.report import write_report
from detection.segmentation.starting import prepare

logger = logging.getLogger("shortcut")


def train(options: SegmentationOptions) -> Path:
    """Train a segmenter, or go on with an interrupted run.

    Args:
        options: what ``python detection/train.py --head fcn`` takes; ``None`` fields are filled by the recipe.

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
            state_file = RunFolder(Path(str(options.resume))).state
            saved = load_checkpoint(state_file) if state_file.exists() else None
        if options.init_from and saved is None:
            initial = load_segmenter(options.init_from)
        if not options.resume:
            options = resolve(options, initial.settings if initial else None)
        data, val = read_splits(options)
        state = prepare(options, data.classes, device, initial, saved)
        run = open_run(options)
        start_logging(options.quiet, run.log)
        warn_of_emulation(device, options.precision)
        if saved:
            logger.info("going on after iteration %d of %s", state.step, options.iterations)
        if distributed.is_main():
            run.rewind(state.step)
            write_splits(
                run.path, {str(options.split): data.images, str(options.val_split): val.images if val else None}
            )
        job = SegmentationJob(options, state, data, val, run, device)
        _announce(options, job, run)
        resume = f"python detection/train.py --resume {run.path}"
        run_jobs([job], _pace(options), resume=resume, quiet=options.quiet, tensorboard=options.tensorboard)
        _finish(options, run, val, device)
        distributed.barrier()
    return run.path


def read_splits(options: SegmentationOptions) -> tuple[SegmentationData, SegmentationData | None]:
    """Both splits, after the data check."""
    assert options.split is not None and options.val_split is not None
    if options.download:
        if distributed.is_main():
            download_dataset(options.dataset, options.data_dir)
        distributed.barrier()
    data, faults = read_segmentation(options.dataset, options.split, data_dir=options.data_dir)
    refuse_faulty_labels(faults, options.dataset)
    if not len(data):
        raise InputError(f"{options.dataset}: split {options.split} has no image to learn from")
    if options.val_split == "none":
        return data, None
    val, faults = read_segmentation(options.dataset, options.val_split, data.classes, data_dir=options.data_dir)
    refuse_faulty_labels(faults, options.dataset)
    return data, val


def _pace(options: SegmentationOptions) -> Pace:
    assert options.iterations is not None and options.batch_size is not None
    return Pace(
        options.iterations, options.batch_size, options.log_every, options.evaluate_every, options.checkpoint_every
    )


def _announce(options: SegmentationOptions, job: SegmentationJob, run: RunFolder) -> None:
    assert options.batch_size is not None
    schedule = make_schedule(options)
    learned = sum(parameter.numel() for parameter in job.segmenter.parameters() if parameter.requires_grad)
    *_, stride = job.segmenter.backbone.out_strides.values()
    logger.info("run folder: %s", run.path)
    logger.info(
        "data: %s, %d images, %d classes with the background; choosing by %s", job.data.images.name, len(job.data),
        len(job.data.classes), f"{len(job.val)} images" if job.val else "nothing",
    )  # fmt: skip
    logger.info("model: %s FCN, output stride %d, %.1f M learned parameters", options.backbone, stride, learned / 1e6)
    logger.info(
        "learning rate: %.4g (%.4g for %d images, scaled to %d); %s iterations, %s images",
        schedule.scaled_peak(options.batch_size), schedule.peak, REFERENCE_BATCH, options.batch_size,
        options.iterations, options.images,
    )  # fmt: skip


def _finish(options: SegmentationOptions, run: RunFolder, val: SegmentationData | None, device: torch.device) -> None:
    """Score the kept weights once more, and write metrics and report."""
    if val is None:
        if distributed.is_main():
            run.write_metrics({})
        return
    segmenter = load_segmenter(run.path, str(device))
    segmenter.precision = options.precision
    marks = evaluate_segmenter(segmenter.predict_each, val, EVALUATION_BATCH)
    if not distributed.is_main():
        return
    run.write_metrics({"split": options.val_split, **marks.metrics, "per_class": marks.per_class})
    facts = {name: value for name, value in dataclasses.asdict(options).items() if value not in (None, "", False)}
    title = f"{options.backbone} FCN on {options.dataset}"
    write_report(run.report, title, marks, segmenter.predict_each, val, run.read_records(), facts)
    logger.info("%s %s: mIoU %.4f", options.dataset, options.val_split, marks.metrics["mIoU"])
    logger.info("weights: %s   report: %s", run.weights, run.report)
