"""The options of ``backbones/train.py``. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from backbones.data.names import HELP
from backbones.errors import InputError, did_you_mean
from backbones.pretraining.recipes import NAMES, find_recipe
from backbones.running.command_line import option
from backbones.running.run_options import RECIPE, RunOptions, default_folder, with_length
from backbones.variants import list_backbones

ENGINES = ("auto", "eager", "graph")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(RunOptions):
    """Everything that decides a training run. ``None`` means: as the recipe says."""

    dataset: str = option("digits", HELP, group="data")
    split: str = option("train", "what to train on; cifar10's trainval is all 50k", group="data")
    val_split: str = option("val", "what is evaluated on the way; the last weights are kept", group="data")
    synthetic: bool = option(False, "random pictures and labels in place of data, to time the step alone", group="data")
    mean_images: int = option(10_000, "pictures that the per-pixel mean of files is taken over; 0 for all",
                              group="data")  # fmt: skip

    arch: str = option("resnet20", "the network", group="model", choices=list_backbones)
    weights: str | None = option(None, "start from these weights: a run folder or a file", group="model")
    checkpoint_activations: bool = option(
        False, "keep the activations of one block at a time (1202 layers in 8 GB), for a third more work", group="model"
    )

    recipe: str = option("paper", "named settings for all that is not given", group="recipe", choices=NAMES)
    learning_rate: float | None = option(
        None, "for the recipe's batch; scaled linearly to the real batch", group="recipe", otherwise=RECIPE
    )
    schedule: str | None = option(
        None, "plateau, step (at --milestones) or cosine", group="recipe", choices=("plateau", "step", "cosine"),
        otherwise=RECIPE,
    )  # fmt: skip
    milestones: tuple[float, ...] | None = option(
        None, "parts of the run after which the learning rate falls to a tenth", group="recipe", otherwise=RECIPE
    )
    seeds: str | None = option(
        None, "several runs in one process, such as 0-4 or 0,2; each in its own folder", group="recipe"
    )

    engine: str = option(
        "auto", "eager, or graph: the whole step as one CUDA graph, its data in device memory; auto takes graph where "
        "it can", group="machine", choices=ENGINES,
    )  # fmt: skip
    compile: bool = option(False, "compile the network", group="machine")

    evaluate_every: int = option(0, "iterations between evaluations; 0 for ten in a run, and forty for a plateau",
                                 group="output")  # fmt: skip
    log_every: int = option(50, "iterations between log lines", group="output")


def resolve(options: TrainingOptions) -> TrainingOptions:
    """Fill every ``None`` from the recipe, and check that the numbers make sense.

    Raises:
        InputError: an unknown recipe or network, or an impossible number.
    """
    if options.arch not in list_backbones():
        raise InputError(f"no network is named {options.arch!r}{did_you_mean(options.arch, list_backbones())}")
    recipe = find_recipe(options.recipe, options.arch)
    schedule = options.schedule or recipe.shape
    options = with_length(options, recipe.batch_size, recipe.images, 40 if schedule == "plateau" else 10)
    return dataclasses.replace(
        options,
        learning_rate=recipe.learning_rate if options.learning_rate is None else options.learning_rate,
        schedule=schedule,
        milestones=recipe.milestones if options.milestones is None else options.milestones,
        output=options.output or default_folder(options.dataset, options.arch),
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """``0-4`` or ``0,2,5-7`` -> the numbers.

    Raises:
        InputError: not of this form, or a number twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"--seeds {text}: write 0-4 or 0,2,5")
        seeds += range(int(first), int(last or first) + 1)
    if len(set(seeds)) < len(seeds) or not seeds:
        raise InputError(f"--seeds {text}: each seed once")
    return tuple(seeds)
