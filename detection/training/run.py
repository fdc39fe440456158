"""From options to a run folder."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

from backbones.running import distributed
from backbones.running.precision import choose_device, warn_of_emulation
from backbones.running.progress import start_logging
from backbones.running.resuming import open_run, options_of_run
from backbones.running.run_folder import RunFolder
from backbones.running.training_loop import Pace, run_jobs
from detection.data.annotations import DetectionData
from detection.detector import Detector
from detection.training.data import read_splits
from detection.training.finishing import finish
from detection.training.job import REFERENCE_BATCH, DetectionJob, make_schedule
from detection.training.options import TrainingOptions, resolve
from detection.training.preparing import prepare

logger = logging.getLogger("shortcut")


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
        data, val = read_splits(options)
        state = prepare(options, data, device)
        run = open_run(options)
        start_logging(options.quiet, run.log)
        warn_of_emulation(device, options.precision)
        if run.state.exists():
            state.load(run.state, device)
            logger.info("going on after iteration %d of %s", state.step, options.iterations)
        if distributed.is_main():
            run.rewind(state.step)
        job = DetectionJob(options, state, data, val, run, device)
        _announce(options, data, val, job.detector, run)
        resume = f"python detection/train.py --resume {run.path}"
        run_jobs([job], _pace(options), resume=resume, quiet=options.quiet, tensorboard=options.tensorboard)
        finish(options, run, val, device)
        distributed.barrier()
    return run.path


def _pace(options: TrainingOptions) -> Pace:
    assert options.iterations is not None and options.batch_size is not None
    return Pace(
        options.iterations, options.batch_size, options.log_every, options.evaluate_every, options.checkpoint_every
    )


def _announce(
    options: TrainingOptions, data: DetectionData, val: DetectionData | None, detector: Detector, run: RunFolder
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
