"""The options of ``backbones/train.py``. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from backbones.errors import InputError, did_you_mean
from backbones.recipes import RECIPES, find_recipe
from backbones.running.command_line import CommandOptions, option
from backbones.variants import list_backbones

DATASETS = ("digits",)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(CommandOptions):
    """Everything that decides a training run. ``None`` means: as the recipe says."""

    dataset: str = option("digits", "what to train on", group="data", choices=DATASETS)
    split: str = option("train", "what to train on", group="data")
    val_split: str = option("val", "what is evaluated on the way; the last weights are kept", group="data")

    arch: str = option("resnet20", "the network", group="model", choices=list_backbones)
    weights: str | None = option(None, "start from these weights: a run folder or a file", group="model")

    recipe: str = option("paper", "named settings for all that is not given", group="recipe", choices=tuple(RECIPES))
    batch_size: int | None = option(None, "images of one step", group="recipe")
    iterations: int | None = option(None, "steps; by default the recipe's images / batch size", group="recipe")
    learning_rate: float | None = option(
        None, "for the recipe's batch; scaled linearly to the real batch", group="recipe"
    )
    seed: int = option(0, "of every random draw", group="recipe")

    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of convolutions and matrix products", group="machine",
                            choices=("fp32", "bf16", "fp16"))  # fmt: skip

    output: str | None = option(None, "run folder (by default runs/DATASET-ARCH)", group="output", metavar="DIR")
    resume: str | None = option(None, "go on with the run in this folder", group="output", metavar="DIR")
    evaluate_every: int = option(0, "iterations between evaluations; 0 for ten in a run", group="output")
    checkpoint_every: int = option(0, "iterations between saved states; 0 for as often as evaluations", group="output")
    log_every: int = option(50, "iterations between log lines", group="output")
    tensorboard: bool = option(True, "write TensorBoard files if it is installed", group="output")


def resolve(options: TrainingOptions) -> TrainingOptions:
    """Fill every ``None`` from the recipe, and check that the numbers make sense.

    Raises:
        InputError: an unknown recipe or network, or an impossible number.
    """
    recipe = find_recipe(options.recipe)
    if options.arch not in list_backbones():
        raise InputError(f"no network is named {options.arch!r}{did_you_mean(options.arch, list_backbones())}")
    batch_size = options.batch_size if options.batch_size is not None else recipe.batch_size
    if batch_size <= 0:
        raise InputError(f"--batch-size must be positive, not {batch_size}")
    iterations = options.iterations if options.iterations is not None else -(-recipe.images // batch_size)
    if iterations <= 0:
        raise InputError(f"--iterations must be positive, not {iterations}")
    every = options.evaluate_every or max(1, -(-iterations // 10))
    filled: dict[str, Any] = {
        "batch_size": batch_size,
        "iterations": iterations,
        "learning_rate": options.learning_rate if options.learning_rate is not None else recipe.learning_rate,
        "evaluate_every": every,
        "checkpoint_every": options.checkpoint_every or every,
        "output": options.output or f"runs/{options.dataset}-{options.arch}",
    }
    return dataclasses.replace(options, **filled)
