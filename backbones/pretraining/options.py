"""The options of ``backbones/train.py``. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from backbones.data.names import HELP
from backbones.errors import InputError, did_you_mean
from backbones.pretraining.recipes import NAMES, find_recipe
from backbones.running.command_line import OutputOptions, option
from backbones.variants import list_backbones

ENGINES = ("auto", "eager", "graph")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(OutputOptions):
    """Everything that decides a training run. ``None`` means: as the recipe says."""

    dataset: str = option("digits", HELP, group="data")
    split: str = option("train", "what to train on; cifar10's trainval is all 50k", group="data")
    val_split: str = option("val", "what is evaluated on the way; the last weights are kept", group="data")
    data_dir: str | None = option(None, "where named sets lie (by default $DATA_DIR or data)", group="data",
                                  metavar="DIR")  # fmt: skip
    download: bool = option(False, "fetch a named set with a public address", group="data")
    synthetic: bool = option(False, "random pictures and labels in place of data, to time the step alone", group="data")
    workers: int = option(-1, "processes that decode files; -1 chooses", group="data")
    mean_images: int = option(10_000, "pictures that the per-pixel mean of files is taken over; 0 for all",
                              group="data")  # fmt: skip

    arch: str = option("resnet20", "the network", group="model", choices=list_backbones)
    weights: str | None = option(None, "start from these weights: a run folder or a file", group="model")
    checkpoint_activations: bool = option(
        False, "keep the activations of one block at a time (1202 layers in 8 GB), for a third more work", group="model"
    )

    recipe: str = option("paper", "named settings for all that is not given", group="recipe", choices=NAMES)
    batch_size: int | None = option(None, "images of one step, over all processes", group="recipe")
    iterations: int | None = option(None, "steps; by default the recipe's images / batch size", group="recipe")
    learning_rate: float | None = option(
        None, "for the recipe's batch; scaled linearly to the real batch", group="recipe"
    )
    schedule: str | None = option(
        None, "plateau, step (at --milestones) or cosine; by default the recipe's", group="recipe",
        choices=("plateau", "step", "cosine"),
    )  # fmt: skip
    milestones: tuple[float, ...] | None = option(
        None, "parts of the run after which the learning rate falls to a tenth", group="recipe"
    )
    seed: int = option(0, "of every random draw", group="recipe")
    seeds: str | None = option(
        None, "several runs in one process, such as 0-4 or 0,2; each in its own folder", group="recipe"
    )

    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of convolutions and matrix products", group="machine",
                            choices=("fp32", "bf16", "fp16"))  # fmt: skip
    engine: str = option(
        "auto", "eager, or graph: the whole step as one CUDA graph, its data in device memory; auto takes graph where "
        "it can", group="machine", choices=ENGINES,
    )  # fmt: skip
    compile: bool = option(False, "compile the network", group="machine")

    output: str | None = option(None, "run folder (by default runs/DATASET-ARCH)", group="output", metavar="DIR")
    resume: str | None = option(None, "go on with the run in this folder", group="output", metavar="DIR")
    evaluate_every: int = option(0, "iterations between evaluations; 0 for ten in a run, and forty for a plateau",
                                 group="output")  # fmt: skip
    checkpoint_every: int = option(0, "iterations between saved states; 0 for as often as evaluations", group="output")
    log_every: int = option(50, "iterations between log lines", group="output")
    tensorboard: bool = option(True, "write TensorBoard files if it is installed", group="output")


def resolve(options: TrainingOptions) -> TrainingOptions:
    """Fill every ``None`` from the recipe, and check that the numbers make sense.

    Raises:
        InputError: an unknown recipe or network, or an impossible number.
    """
    if options.arch not in list_backbones():
        raise InputError(f"no network is named {options.arch!r}{did_you_mean(options.arch, list_backbones())}")
    recipe = find_recipe(options.recipe, options.arch)
    batch_size = options.batch_size if options.batch_size is not None else recipe.batch_size
    if batch_size <= 0:
        raise InputError(f"--batch-size must be positive, not {batch_size}")
    iterations = options.iterations if options.iterations is not None else -(-recipe.images // batch_size)
    if iterations <= 0:
        raise InputError(f"--iterations must be positive, not {iterations}")
    if options.log_every <= 0 or min(options.evaluate_every, options.checkpoint_every, options.seed) < 0:
        raise InputError("--log-every must be positive; --evaluate-every, --checkpoint-every and --seed not negative")
    schedule = options.schedule or recipe.shape
    every = options.evaluate_every or max(1, -(-iterations // (40 if schedule == "plateau" else 10)))
    place = options.dataset.partition(":")[2].rstrip("/").rpartition("/")[2].removesuffix(".npz")
    filled: dict[str, Any] = {
        "batch_size": batch_size,
        "iterations": iterations,
        "learning_rate": options.learning_rate if options.learning_rate is not None else recipe.learning_rate,
        "schedule": schedule,
        "milestones": options.milestones if options.milestones is not None else recipe.milestones,
        "evaluate_every": every,
        "checkpoint_every": options.checkpoint_every or every,
        "output": options.output or f"runs/{place.lower() or options.dataset}-{options.arch}",
    }
    return dataclasses.replace(options, **filled)


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
