"""From options to a run folder."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.running import distributed
from backbones.running.checkpoint import load_checkpoint
from backbones.running.precision import choose_device, warn_of_emulation
from backbones.running.progress import start_logging
from backbones.running.resuming import open_run, options_of_run
from backbones.running.run_folder import RunFolder
from backbones.running.training_loop import Pace, run_jobs
from detection.building import load_detector
from detection.data.splits import write_splits
from detection.training.announcing import announce
from detection.training.data import read_splits
from detection.training.finishing import finish
from detection.training.job import DetectionJob
from detection.training.options import TrainingOptions, resolve
from detection.training.preparing import prepare
from detection.weights import is_detector, read_source

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
    with distributed.process_group(device):
        start_logging(options.quiet)
        initial, saved = None, None
        if options.resume:
            options = options_of_run(options, Path(options.resume))
            saved = _saved_state(Path(str(options.resume)))
        # all of it, not its backbone alone
        if saved is None and options.weights and is_detector(read_source(options.weights)):
            options = replace(options, init_from=options.init_from or options.weights, weights=None)
        if options.init_from and saved is None:
            initial = load_detector(options.init_from)
        if not options.resume:
            options = resolve(options, initial.settings if initial else None)
        data, val = read_splits(options)
        state = prepare(options, data, device, initial, saved)
        run = open_run(options)
        start_logging(options.quiet, run.log)
        warn_of_emulation(device, options.precision)
        if saved:
            logger.info("going on after iteration %d of %s", state.step, options.iterations)
        if distributed.is_main():
            run.rewind(state.step)
            write_splits(run.path, {str(options.split): data, str(options.val_split): val})
        job = DetectionJob(options, state, data, val, run, device)
        announce(options, data, val, job.detector, run)
        resume = f"python detection/train.py --resume {run.path}"
        run_jobs([job], _pace(options), resume=resume, quiet=options.quiet, tensorboard=options.tensorboard)
        finish(options, run, val, device)
        distributed.barrier()
    return run.path


def _saved_state(folder: Path) -> dict[str, Any] | None:
    """The state in a run folder; None where a run was stopped before it saved one."""
    path = RunFolder(folder).state
    return load_checkpoint(path) if path.exists() else None


def _pace(options: TrainingOptions) -> Pace:
    assert options.iterations is not None and options.batch_size is not None
    return Pace(
        options.iterations, options.batch_size, options.log_every, options.evaluate_every, options.checkpoint_every
    )
