"""What finished or running classification runs recorded: errors against iterations, and seeds brought together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from backbones.analysis.names import display_name
from backbones.errors import InputError
from backbones.running.run_folder import RunFolder

TRAIN, TEST = "train_error", "top1_error"
_NAMED = ("dataset", "split", "val_split", "recipe", "precision", "batch_size", "learning_rate", "iterations")
"""Settings that make two runs different runs; the seed is not among them."""


@dataclass(frozen=True)
class Curve:
    """One quantity over iterations: ``steps`` [N], and ``values`` [S, N] of S seeds at them."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.asarray(self.values.mean(0))

    @property
    def deviation(self) -> NDArray[np.float64]:
        """The seeds' standard deviation around their mean (n - 1); zero for one seed."""
        if len(self.values) < 2:
            return np.zeros(len(self.steps))
        return np.asarray(self.values.std(0, ddof=1))

    def binned(self, points: int) -> Curve:
        """At most ``points`` points, each the mean over neighbours, at the last of their steps.

        Every point stands for an equal number of records; a remainder joins the first.
        """
        size = -(-len(self.steps) // points)
        if size <= 1:
            return self
        ends = np.arange(len(self.steps), 0, -size)[::-1]
        starts = np.concatenate([[0], ends[:-1]])
        means = [self.values[:, start:end].mean(1) for start, end in zip(starts, ends, strict=True)]
        return Curve(self.steps[ends - 1], np.stack(means, 1))


@dataclass(frozen=True)
class Run:
    """One run folder: its settings, and its two errors in per cent by iteration.

    ``test`` is measured on the split that the run was evaluated on, ``evaluated``: ``test``, or a validation split.
    """

    path: Path
    arch: str
    seed: int
    evaluated: str
    settings: tuple[tuple[str, Any], ...]
    train: dict[int, float]
    test: dict[int, float]


@dataclass(frozen=True)
class Network:
    """Runs that differ in their seed alone.

    Attributes:
        label: the network, and what tells it from others of that name in the figure.
        arch: the network.
        runs: one for each seed.
        train, test: error in per cent at the iterations that all of them recorded; None where none did.
    """

    label: str
    arch: str
    runs: tuple[Run, ...]
    train: Curve | None
    test: Curve | None


def find_runs(folders: Sequence[str]) -> list[Path]:
    """The run folders that are given, or lie directly in a folder that is given.

    Raises:
        InputError: none is given, or one holds no records.
    """
    if not folders:
        raise InputError("give --run: one or more run folders")
    found: list[Path] = []
    for folder in map(Path, folders):
        if RunFolder(folder).records.is_file():
            found.append(folder)
            continue
        inside = sorted(path.parent for path in folder.glob("*/metrics.jsonl"))
        if not inside:
            raise InputError(f"{folder}: no records (metrics.jsonl) here; give the folder of a classification run")
        found += inside
    return list(dict.fromkeys(found))


def read_run(path: Path) -> Run:
    """Read ``config.yaml`` and ``metrics.jsonl``.

    Raises:
        InputError: one of them is missing or damaged, or nothing was recorded that a classification run records.
    """
    folder = RunFolder(path)
    try:
        config = folder.read_config()
        records = folder.read_records()
    except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a run folder (config.yaml cannot be read)") from error
    train, test = (
        {int(record["step"]): float(record[name]) for record in records if name in record} for name in (TRAIN, TEST)
    )
    if "arch" not in config or not (train or test):
        raise InputError(f"{path}: records no {TRAIN} and no {TEST}; only classification runs have these curves")
    evaluated = str(config.get("val_split", "test"))
    settings = tuple((name, config.get(name)) for name in _NAMED)
    return Run(path, str(config["arch"]), int(config.get("seed", 0)), evaluated, settings, train, test)


def bring_together(runs: Sequence[Run]) -> list[Network]:
    """Average the seeds of each network; networks in the order in which they first appear."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.arch, run.settings), []).append(run)
    networks = []
    for (arch, settings), members in groups.items():
        rivals = [dict(other) for name, other in groups if name == arch]
        telling = [
            f"{name.replace('_', ' ')} {value}" if not isinstance(value, str) else value
            for name, value in settings
            if any(rival[name] != value for rival in rivals)
        ]
        label = ", ".join([display_name(arch), *telling])
        train, test = ([getattr(run, kind) for run in members] for kind in ("train", "test"))
        networks.append(Network(label, arch, tuple(members), _common(train), _common(test)))
    return _with_dataset(networks)


def _with_dataset(networks: list[Network]) -> list[Network]:
    """Name the data behind each network where the figure mixes several."""
    names = [str(dict(network.runs[0].settings)["dataset"]) for network in networks]
    if len(set(names)) < 2:
        return networks
    return [
        network if name in network.label else dataclasses.replace(network, label=f"{network.label}, {name}")
        for network, name in zip(networks, names, strict=True)
    ]


def _common(recorded: Sequence[dict[int, float]]) -> Curve | None:
    """The iterations that all runs recorded: where one stopped early, so does their mean."""
    steps = sorted(set.intersection(*(set(curve) for curve in recorded)))
    if not steps:
        return None
    return Curve(np.array(steps), np.array([[curve[step] for step in steps] for curve in recorded]))
