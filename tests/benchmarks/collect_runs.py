#!/usr/bin/env python
"""One file for results/classification/ from finished runs of backbones/train.py.

    python tests/benchmarks/collect_runs.py runs/cifar10-resnet20 runs/cifar10-resnet56 \\
        --output results/classification/cifar10.json

A folder is a run, or holds runs (one for each seed). Runs that differ in their seed alone become one entry with a list
of errors. ``--metrics test.json`` takes another file of each run than metrics.json, as evaluate.py --output writes it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.analysis.run_records import find_runs, read_run
from backbones.errors import InputError
from backbones.running.atomic_write import write_json
from backbones.running.run_folder import RunFolder
from tests.benchmarks.quickstart import training_seconds

PAPERS = ("cifar10", "imagenet")
OTHER_DATA = "other data: never beside the paper's numbers"
SETTINGS = ("recipe", "iterations", "batch_size", "learning_rate", "schedule", "milestones", "precision", "engine",
            "weights", "synthetic")  # fmt: skip
_LAST = 50  # the final training error is the mean over the last fiftieth of the run


@dataclass(frozen=True)
class FinishedRun:
    """What one run tells.

    Attributes:
        key: what runs of one entry have in common.
        seed: of its draws.
        top1, top5: errors in per cent on the evaluated split.
        train: training error in per cent over the end of the run; None if it was not recorded.
        seconds: time of the run; None if it is not known.
        environment: what it ran on.
        finished: when, seconds since the epoch.
    """

    key: dict[str, Any]
    seed: int
    top1: float
    top5: float | None
    train: float | None
    seconds: float | None
    environment: dict[str, Any]
    finished: float


def read_finished_run(path: Path, metrics_name: str = "metrics.json") -> FinishedRun:
    """Read a run folder.

    Raises:
        InputError: the run is not finished, or was evaluated on other data than it was trained on.
    """
    recorded, config = read_run(path), RunFolder(path).read_config()
    file = path / metrics_name
    if not file.is_file():
        raise InputError(f"{path}: no {metrics_name}; the run is not finished, or was not evaluated so")
    metrics = json.loads(file.read_text(encoding="utf-8"))
    if "top1_error" not in metrics:
        raise InputError(f"{file}: has no top1_error")
    dataset = dataset_name(str(config["dataset"]))
    if "dataset" in metrics and dataset_name(str(metrics["dataset"])) != dataset:
        raise InputError(f"{file}: evaluated on {metrics['dataset']}, trained on {config['dataset']}")
    last = max([*recorded.train, *recorded.test])
    if last < config["iterations"]:
        raise InputError(f"{path}: stopped at iteration {last} of {config['iterations']}; finish it with --resume")
    settings = {name: config[name] for name in SETTINGS if config.get(name) is not None}
    if settings.get("weights"):
        settings["weights"] = Path(settings["weights"]).name  # no paths of the machine
    key = {
        "arch": recorded.arch,
        "dataset": dataset,
        "train_split": str(config["split"]),
        "protocol": str(metrics.get("protocol", "center")),
        "split": str(metrics["split"]),
        "images": metrics.get("images"),
        "settings": settings,
    }
    ending = [error for step, error in recorded.train.items() if step > last - last / _LAST]
    return FinishedRun(
        key,
        recorded.seed,
        metrics["top1_error"],
        metrics.get("top5_error"),
        statistics.mean(ending) if ending else None,
        metrics.get("seconds", training_seconds(path) if (path / "log.txt").is_file() else None),
        json.loads((path / "env.json").read_text(encoding="utf-8")),
        file.stat().st_mtime,
    )


def dataset_name(text: str) -> str:
    """``npz:somewhere/cifar10_jpeg`` -> ``npz:cifar10_jpeg``: no paths, and never the bare name of a published set."""
    layout, colon, place = text.partition(":")
    return f"{layout}:{Path(place).name}" if colon else text


def entries_of(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """One entry for each network, with its seeds in order.

    Raises:
        InputError: two data sets, two machines, or one run twice.
    """
    for name, found in (
        ("data sets", {run.key["dataset"] for run in runs}),
        ("machines", {str(run.environment.get("gpu") or run.environment["processor"]) for run in runs}),
    ):
        if len(found) > 1:
            raise InputError(f"several {name} ({', '.join(sorted(found))}); write a file for each")
    groups: dict[str, list[FinishedRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        groups.setdefault(json.dumps(run.key, sort_keys=True), []).append(run)
    entries = []
    for members in groups.values():
        seeds = [run.seed for run in members]
        if len(set(seeds)) < len(seeds):
            raise InputError(f"{members[0].key['arch']}: two runs with one seed ({seeds}); give each run once")
        top1 = [run.top1 for run in members]
        entries.append(
            {
                **members[0].key,
                "seeds": seeds,
                "top1_error": top1,
                "top5_error": [run.top5 for run in members],
                "train_error": [run.train for run in members],
                "seconds": [run.seconds for run in members],
                "mean_top1_error": statistics.mean(top1),
                "std_top1_error": statistics.stdev(top1) if len(top1) > 1 else None,
            }
        )
    return entries


def collected(runs: Sequence[FinishedRun], command: str) -> dict[str, Any]:
    """The whole file."""
    entries = entries_of(runs)
    commits = sorted({str(run.environment["commit"]) for run in runs})
    dataset = entries[0]["dataset"]
    return {
        "what": f"classification networks trained on {dataset}: errors in per cent, one for each seed",
        "command": command,
        **({} if dataset in PAPERS else {"scale": OTHER_DATA}),
        "date": time.strftime("%Y-%m-%d", time.localtime(max(run.finished for run in runs))),
        "environment": {**runs[0].environment, "commit": ", ".join(commits)},
        "results": entries,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="run folders, or folders of them")
    parser.add_argument("--metrics", default="metrics.json", metavar="NAME", help="the file of each run that is read")
    parser.add_argument("--output", type=Path, help="write a JSON file")
    options = parser.parse_args(argv)
    typed = [Path(run).name if Path(run).is_absolute() else run for run in options.runs]
    command = shlex.join(["python", "tests/benchmarks/collect_runs.py", *typed, "--metrics", options.metrics])
    try:
        file = collected([read_finished_run(path, options.metrics) for path in find_runs(options.runs)], command)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for entry in file["results"]:
        deviation = entry["std_top1_error"]
        print(
            f"{entry['arch']:<12} {entry['split']} top-1 error {entry['mean_top1_error']:.2f} %"
            + (f" +- {deviation:.2f}" if deviation is not None else "")
            + f"  seeds {', '.join(map(str, entry['seeds']))}"
        )
    if options.output:
        write_json(options.output, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
