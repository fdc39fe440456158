#!/usr/bin/env python
"""The first losses of every recipe on the built-in digits, from one tree of the code or from two that must agree.

    python tests/benchmarks/first_losses.py --against OTHER_CHECKOUT

Each line names a run and its losses to the last bit; small sides, one thread. Exits with 1 if the trees differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_EACH = "--dataset digits --seed 3 --device cpu --log-every 1 --no-tensorboard --quiet"
_TWO = f"{_EACH} --val-split none --weights none --batch-size 2"
_REGIONS = f"{_TWO} --shorter 96 --longer 128 --region-samples 16"
_PIXELS = f"{_TWO} --head fcn --backbone resnet20 --crop 64 --shorter 80"
_HEADS = {"fpn": "--backbone resnet20 --channels 16 --vector 32", "c4": "--backbone resnet20", "vgg": "--vector 32"}
CASES = {
    **{
        f"{head} {recipe}": f"detection {_REGIONS} --recipe {recipe} --head {head} {own}"
        for head, own in _HEADS.items()
        for recipe in ("paper", "1x", "2x", "3x", "quick", "digits")
        if (head, recipe) != ("fpn", "paper")
    },
    "masks": f"detection {_REGIONS} --recipe quick --head fpn {_HEADS['fpn']} --masks --accumulate 2 --ema 0.9",
    "context": f"detection {_REGIONS} --recipe 1x --head c4 {_HEADS['c4']} --masks --context --pool pool --freeze 1",
    **{f"fcn {recipe}": f"detection {_PIXELS} --recipe {recipe}" for recipe in ("voc", "coco", "quick", "digits")},
    "fcn ema": f"detection {_PIXELS} --recipe quick --ema 0.9 --freeze 1 --auxiliary --scales 0.8 1.5 --longer 90",
    **{
        f"{arch} {recipe}": f"backbones {_EACH} --arch {arch} --recipe {recipe} --batch-size 16"
        for arch in ("resnet20", "resnet18")
        for recipe in ("paper", "modern", "quick")
    },
}
_RUN = """
import importlib, sys, tempfile, pathlib, json, torch
torch.set_num_threads(1)
for name, line in json.loads(sys.argv[1]).items():
    package, *arguments = line.split()
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder, "run")
        code = importlib.import_module(package + ".train").main([*arguments, "--output", str(run)])
        lines = (run / "metrics.jsonl").read_text().splitlines() if not code else []
    records = [json.loads(line) for line in lines]
    rows = [{k: v for k, v in row.items() if k not in ("time", "step")} for row in records if "learning_rate" in row]
    print(json.dumps([name, rows]), flush=True)
"""


def losses_of(tree: Path, cases: dict[str, str]) -> dict[str, list[dict[str, float]]]:
    """Losses and learning rates of each case by name, as the code in a tree computes them."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _RUN, json.dumps(cases)]
    return dict(map(json.loads, subprocess.check_output(command, cwd=tree, env=environment, text=True).splitlines()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=ROOT, help="checkout whose code runs; by default this one")
    parser.add_argument("--against", type=Path, help="another checkout, whose losses must be the same")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    options = parser.parse_args()
    cases = {n: f"{line} --iterations {options.steps}" for n, line in CASES.items() if options.only in n}
    found = losses_of(options.tree.resolve(), cases)
    other = losses_of(options.against.resolve(), cases) if options.against else found
    for name, rows in found.items():
        same = "" if not options.against else "same " if rows == other.get(name) and rows else "DIFFERENT "
        print(f"{same}{name}: {' '.join(repr(row.get('loss', row.get('cross_entropy'))) for row in rows)}")
    return 0 if found == other and all(found.values()) and len(found) == len(cases) else 1


if __name__ == "__main__":
    sys.exit(main())
