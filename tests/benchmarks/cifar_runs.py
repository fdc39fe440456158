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

ROOT = Path(__file__).resolve().parents[2]
SEEDS = {"resnet20": "0-2", "resnet56": "0-2", "resnet110": "0-2", "plain20": "0-2", "plain56": "0-2", "resnet32": "0",
         "resnet44": "0"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--arch", nargs="+", default=list(SEEDS), choices=list(SEEDS))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--iterations", type=int, help="fewer than the recipe's, to try the script")
    parser.add_argument("--output", type=Path, default=Path("runs/cifar"))
    parser.add_argument("--results", type=Path, default=Path("results/classification"))
    options = parser.parse_args()
    for arch in options.arch:
        train(arch, options)
    runs = [str(run) for arch in options.arch for run in sorted((options.output / arch).glob("seed*"))]
    call("backbones/analyze.py", "curves", "--run", *runs, "--output", str(options.output / "curves.png"))
    for arch in options.arch:
        folders = [str(run) for run in sorted((options.output / arch).glob("seed*"))]
        name = options.dataset.rpartition("/")[2].rpartition(":")[2]
        call("tests/benchmarks/collect_runs.py", *folders, "--output", str(options.results / f"{name}_{arch}.json"))


def train(arch: str, options: argparse.Namespace) -> None:
    folder = options.output / arch
    if all((run / "metrics.json").exists() for run in folder.glob("seed*")) and folder.exists():
        return
    if folder.exists():
        call("backbones/train.py", "--resume", str(folder))
        return
    arguments = ["--arch", arch, "--dataset", options.dataset, "--split", "train", "--val-split", "test",
                 "--seeds", SEEDS[arch], "--precision", options.precision, "--log-every", "500",
                 "--evaluate-every", "1000", "--checkpoint-every", "8000", "--output", str(folder)]  # fmt: skip
    if options.iterations:
        arguments += ["--iterations", str(options.iterations)]
    call("backbones/train.py", *arguments)


def call(script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / script), *arguments], check=True)


if __name__ == "__main__":
    main()
