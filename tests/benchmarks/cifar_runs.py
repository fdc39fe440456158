#!/usr/bin/env python
"""Section 4.2's networks by its own recipe, several seeds each, and their figure.

    python tests/benchmarks/cifar_runs.py --dataset npz:data/cifar10_jpeg --precision bf16

Runs ``backbones/train.py`` for each network (finished runs are kept, interrupted ones go on), then writes
``results/classification/*.json`` and the curves of Fig. 6.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.pretraining.options import TrainingOptions
from backbones.pretraining.training import train
from backbones.running.command_line import INTERRUPTED, Interrupted

ROOT = Path(__file__).resolve().parents[2]
SEEDS = {"resnet20": "0-2", "resnet56": "0-2", "resnet110": "0-2", "plain20": "0-2", "plain56": "0-2", "resnet32": "0",
         "resnet44": "0"}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--arch", nargs="+", default=list(SEEDS), choices=list(SEEDS))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--iterations", type=int, help="fewer than the recipe's, to try the script")
    parser.add_argument("--output", type=Path, default=Path("runs/cifar"))
    parser.add_argument("--results", type=Path, default=Path("results/classification"))
    options = parser.parse_args()
    for arch in options.arch:
        try:
            run_recipe(
                arch, options.dataset, options.output / arch, seeds=SEEDS[arch], precision=options.precision,
                iterations=options.iterations,
            )  # fmt: skip
        except Interrupted as stop:
            print(f"interrupted: {stop}", file=sys.stderr)
            return INTERRUPTED
    runs = [str(run) for arch in options.arch for run in runs_in(options.output / arch)]
    call("backbones/analyze.py", "curves", "--run", *runs, "--output", str(options.output / "curves.png"))
    for arch in options.arch:
        folders = [str(run) for run in runs_in(options.output / arch)]
        name = options.dataset.rpartition("/")[2].rpartition(":")[2]
        call("tests/benchmarks/collect_runs.py", *folders, "--output", str(options.results / f"{name}_{arch}.json"))
    return 0


def run_recipe(arch: str, dataset: str, folder: Path, device: str = "auto", **changes: Any) -> None:
    """Train a network by the whole recipe, from its start or from where an earlier run was stopped.

    Args:
        arch, dataset, device: as ``backbones/train.py`` takes them.
        folder: of the run, or of the runs of several seeds.
        changes: further options of a new run.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
    """
    runs = runs_in(folder)
    if runs and all((run / "metrics.json").exists() for run in runs):
        return
    if runs:
        train(TrainingOptions(resume=str(folder), device=device, tensorboard=False))
        return
    pace = {"log_every": 500, "evaluate_every": 1000, "checkpoint_every": 8000}
    train(TrainingOptions(
        arch=arch, dataset=dataset, split="train", val_split="test", device=device, output=str(folder),
        tensorboard=False, **{**pace, **changes},
    ))  # fmt: skip


def runs_in(folder: Path) -> list[Path]:
    """The run in a folder, or the runs of several seeds; none where nothing was begun."""
    return sorted(path.parent for pattern in ("config.yaml", "seed*/config.yaml") for path in folder.glob(pattern))


def call(script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / script), *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
