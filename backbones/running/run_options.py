"""What every training run is asked, and what is made of it. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from backbones.errors import InputError
from backbones.running.command_line import OutputOptions, as_plain_values, flag_of, option

RECIPE = "the recipe's"


@dataclass(frozen=True, kw_only=True)
class RunOptions(OutputOptions):
    """Options of both ``train.py``. ``None`` means: as the recipe says."""

    data_dir: str | None = option(None, "where named sets lie", group="data", metavar="DIR",
                                  otherwise="$DATA_DIR or data")  # fmt: skip
    download: bool = option(False, "fetch a named set with a public address", group="data")
    workers: int = option(-1, "processes that read images; -1 chooses", group="data")

    batch_size: int | None = option(None, "images of one step, over all processes", group="recipe", otherwise=RECIPE)
    iterations: int | None = option(None, "steps", group="recipe", otherwise="images / batch size")
    seed: int = option(0, "of every random draw", group="recipe")

    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of convolutions and matrix products", group="machine",
                            choices=("fp32", "bf16", "fp16"))  # fmt: skip

    output: str | None = option(None, "run folder", group="output", metavar="DIR", otherwise="runs/DATASET-NETWORK")
    resume: str | None = option(None, "go on with the run in this folder", group="output", metavar="DIR")
    evaluate_every: int = option(0, "iterations between evaluations; 0 for ten in a run", group="output")
    checkpoint_every: int = option(0, "iterations between saved states; 0 for as often as evaluations", group="output")
    log_every: int = option(20, "iterations between log lines", group="output")
    tensorboard: bool = option(True, "write TensorBoard files if it is installed", group="output")


Options = TypeVar("Options", bound=RunOptions)
Resolved = Any
"""Options that ``resolve`` has filled: what a run needs is no longer None, which their own type cannot say."""


def with_length(options: Options, batch_size: int, images: int, evaluations: int = 10) -> Options:
    """Fill how long a run is, and how often what happens.

    Args:
        options: as given.
        batch_size, images: the recipe's.
        evaluations: of a run, where nothing else is said.

    Raises:
        InputError: a number makes no sense.
    """
    options = replace(options, batch_size=batch_size if options.batch_size is None else options.batch_size)
    require_positive(options, "batch_size", "iterations", "log_every")
    require_not_negative(options, "seed", "evaluate_every", "checkpoint_every")
    filled: Resolved = options
    iterations = -(-images // filled.batch_size) if options.iterations is None else options.iterations
    every = options.evaluate_every or max(1, -(-iterations // evaluations))
    checkpoint_every = options.checkpoint_every or every
    return replace(options, iterations=iterations, evaluate_every=every, checkpoint_every=checkpoint_every)


def require_positive(options: OutputOptions, *names: str) -> None:
    """Refuse options that are not above zero; those that are None are not asked.

    Raises:
        InputError: one is not.
    """
    _require(options, names, lambda value: value > 0, "must be positive")


def require_not_negative(options: OutputOptions, *names: str) -> None:
    """Refuse options below zero; those that are None are not asked.

    Raises:
        InputError: one is.
    """
    _require(options, names, lambda value: value >= 0, "must not be negative")


def require_below_one(options: OutputOptions, *names: str) -> None:
    """Refuse options that are no number from 0 to below 1; those that are None are not asked.

    Raises:
        InputError: one is none.
    """
    _require(options, names, lambda value: 0 <= value < 1, "must be from 0 to below 1")


def _require(options: OutputOptions, names: Sequence[str], holds: Callable[[Any], bool], what: str) -> None:
    for name in names:
        value = getattr(options, name)
        parts = value if isinstance(value, tuple) else (value,)
        if value is not None and not (parts and all(map(holds, parts))):
            raise InputError(f"{flag_of(name)} {what}, not {value}")


def default_folder(dataset: str, network: str) -> str:
    """Where a run goes that was told no place: ``runs/voc-resnet101``."""
    name, _, place = dataset.partition(":")
    return str(Path("runs") / f"{Path(place).resolve().name.lower().removesuffix('.npz') if place else name}-{network}")


def as_facts(options: RunOptions) -> dict[str, Any]:
    """What a report lists of a run's options: those that say something."""
    return {name: value for name, value in as_plain_values(options).items() if value not in (None, "", False, [])}
