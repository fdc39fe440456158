"""Pretraining: from options to run folders (sections 3.4 and 4.2)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from backbones.blocks import BasicBlock, Bottleneck
from backbones.building import build_backbone
from backbones.classifier import Classifier, describe
from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.normalization import Normalize
from backbones.pretraining.data import Datasets, measure_convention, read_datasets
from backbones.pretraining.job import DataOnDevice, PretrainingJob, choose_engine, make_schedule
from backbones.pretraining.options import TrainingOptions, parse_seeds, resolve
from backbones.pretraining.recipes import find_recipe, takes_small_pictures
from backbones.pretraining.steps import checkpoint_blocks, make_optimizer
from backbones.running import distributed
from backbones.running.precision import choose_device, gradient_scaler, warn_of_emulation
from backbones.running.progress import start_logging
from backbones.running.resuming import open_run, options_of_run, run_outputs
from backbones.running.run_folder import RunFolder
from backbones.running.run_options import Resolved
from backbones.running.training_loop import run_jobs
from backbones.running.training_state import TrainingState
from backbones.weights import load_weights, read_weights

logger = logging.getLogger("shortcut")


def train(options: TrainingOptions) -> Path:
    """Train a network, or several seeds of it side by side, or go on with an interrupted run.

    Args:
        options: what ``python backbones/train.py`` takes; ``None`` fields are filled by the recipe.

    Returns:
        The run folder; of several seeds, the folder that holds theirs.

    Raises:
        InputError: something given cannot be used.
        Interrupted: a signal asked to stop; the state is saved.
    """
    device = choose_device(options.device)
    with distributed.process_group(device):
        start_logging(options.quiet)
        place, runs = _runs_of(options)
        first = runs[0]
        for run in runs if not options.resume else ():  # said before the first folder is made
            RunFolder(Path(str(run.output))).refuse_taken(run_outputs(run))
        distributed.barrier()
        datasets = read_datasets(first)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every step has the same shapes
        states = [_prepare(run, datasets, device) for run in runs]
        folders = [open_run(run) for run in runs]
        start_logging(first.quiet, folders[0].log)
        warn_of_emulation(device, first.precision)
        on_device = DataOnDevice(datasets, device)
        jobs = [
            PretrainingJob(run, state, on_device, folder)
            for run, state, folder in zip(runs, states, folders, strict=True)
        ]
        for job in jobs:
            job.restore()
        _announce(first, datasets, place, len(jobs))
        run_jobs(jobs, first, f"python backbones/train.py --resume {place}")
        for job in jobs:
            job.finish()
        distributed.barrier()
    return place


def _runs_of(options: TrainingOptions) -> tuple[Path, list[TrainingOptions]]:
    """The folder, and the resolved options of each run in it."""
    if options.resume:
        place = Path(options.resume)
        folders = sorted(path.parent for path in place.glob("seed*/config.yaml")) or [place]
        return place, [options_of_run(options, folder) for folder in folders]
    resolved: Resolved = resolve(options)
    place = Path(resolved.output)
    if options.seeds is None:
        return place, [resolved]
    seeds = parse_seeds(options.seeds)
    runs = [replace(resolved, seed=s, seeds=None, output=str(place / f"seed{s}")) for s in seeds]
    return place, runs


def _prepare(options: Resolved, datasets: Datasets, device: torch.device) -> TrainingState:
    """Model and optimizer before the first step."""
    recipe = find_recipe(options.recipe, options.arch)
    distributed.require_shares(options.batch_size)
    if datasets.in_memory and not options.synthetic:
        choose_engine(options, device)  # refuses before anything is written
    elif options.engine == "graph":
        raise InputError("--engine graph: needs data that lies in memory; use --engine auto")
    torch.manual_seed(options.seed)
    network = build_backbone(options.arch, len(datasets.classes))
    if recipe.zero_last_gamma:
        _zero_last_gammas(network)
    if options.weights:
        _start_from(network, options.weights, len(datasets.classes))
    if options.checkpoint_activations:
        checkpoint_blocks(network)
    convention, picture = measure_convention(datasets.train, recipe, options)
    model = Classifier(options.arch, network, Normalize(convention, picture), datasets.classes).to(device)
    model = model.to(memory_format=torch.channels_last)
    scaler = gradient_scaler(device, options.precision)
    return TrainingState(model, make_optimizer(model, recipe), scaler, about=describe(model))


def _start_from(network: Backbone, source: str, classes: int) -> None:
    """Load weights; those of a classifier for another number of classes without the classifier."""
    weights = read_weights(source)
    given = [len(tensor) for name, tensor in weights.tensors.items() if name.endswith(("fc.bias", "fc8.bias"))]
    same = given == [classes]
    if not same:
        found = given[0] if given else "no"
        logger.info("weights: the classifier starts anew (%s classes in the file, %d in the data)", found, classes)
    load_weights(network, weights, classifier=same)


def _zero_last_gammas(network: nn.Module) -> None:
    """Every residual branch starts as zero (Goyal et al. 2017), so that a block starts as its shortcut."""
    for block in network.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)
        elif isinstance(block, BasicBlock) and block.shortcut is not None:
            nn.init.zeros_(block.bn2.weight)


def _announce(options: Resolved, datasets: Datasets, place: Path, runs: int) -> None:
    logger.info("run folder: %s%s", place, f" ({runs} seeds)" if runs > 1 else "")
    size = (
        f"of {datasets.train.images.shape[1]} x {datasets.train.images.shape[2]}" if datasets.in_memory else "in files"
    )
    logger.info("data: %s, %d images %s, %d classes", options.dataset, len(datasets.train.labels), size,
                len(datasets.classes))  # fmt: skip
    section = "4.2" if takes_small_pictures(options.arch) else "3.4"
    recipe = f"section {section}" if options.recipe == "paper" else options.recipe
    logger.info(
        "recipe: %s; learning rate %.4g for batches of %s; %s iterations", recipe,
        make_schedule(options).scaled_peak(options.batch_size), options.batch_size, options.iterations,
    )  # fmt: skip
