#!/usr/bin/env python
"""Suppression as a fixed point, by the number of boxes: its own time, beside another version of it, and how it grows.

    git show REVISION:detection/nms.py > runs/nms_before.py
    python tests/benchmarks/suppression_speed.py --before runs/nms_before.py --before-rounds 32 --threads 2 \\
        --output results/suppression_speed_cpu.json

Groups are the levels of one picture: clustered boxes, sorted by score, as a detector's anchors are before suppression.
Both versions must keep the same boxes. Beside them runs torchvision's kernel, whose work depends on what it finds.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from backbones.running.measurement import write_measurement
from deploy.benchmarking.timing import Spread, Turns, summarize, take_turns
from detection.nms import nms_by_fixed_point, nms_by_kernel
from detection.operators import ROUNDS
from tests.detection.test_nms import cases

THRESHOLD = 0.7
NOW, BEFORE, KERNEL = "now", "before", "kernel"


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    before = load(options.before).nms_by_fixed_point if options.before else None
    rows: list[dict[str, Any]] = []
    for count in options.proposals:
        row = measured(count, before, options)
        first = rows[0] if rows else row
        linear = count / first["proposals"]
        row["times_linear"] = {name: round(row["ms"][name] / first["ms"][name] / linear, 2) for name in row["ms"]}
        rows.append(row)
        print(row, flush=True)
    if options.output:
        write_measurement(
            options.output,
            what="suppression as a fixed point: milliseconds, times faster turn by turn, and its time over what growth "
            "in proportion to the number of boxes from the first row would give",
            settings={"groups": options.groups, "rounds": ROUNDS, "rounds_before": options.before_rounds,
                      "threads": options.threads, "turns": options.turns},
            results=rows,
        )  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proposals", type=int, nargs="+", default=(300, 1000, 2000))
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--before", type=Path, metavar="FILE", help="detection/nms.py of another revision")
    parser.add_argument("--before-rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--output", help="write a JSON file")
    return parser.parse_args()


def load(path: Path) -> Any:
    """A module from a file that is not on the path."""
    spec = importlib.util.spec_from_file_location("nms_before", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.inference_mode()
def measured(count: int, before: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of each version for one number of boxes."""
    boxes = cases("clustered", options.groups, count, seed=0)
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    calls = {
        NOW: lambda: nms_by_fixed_point(boxes, valid, THRESHOLD, iterations=ROUNDS),
        KERNEL: lambda: nms_by_kernel(boxes, valid, THRESHOLD),
    }
    if before:
        calls[BEFORE] = lambda: before(boxes, valid, THRESHOLD, iterations=options.before_rounds)
    found = {name: call() for name, call in calls.items()}
    assert all(torch.equal(keep, found[KERNEL][0]) and bool(exact.all()) for keep, exact in found.values())
    turns = take_turns(calls, options.turns, 0.0)
    row: dict[str, Any] = {"proposals": count, "ms": {name: fastest(turn) for name, turn in turns.items()}}
    if before:
        ratio = summarize(turns[NOW], 1, turns[BEFORE], 1).ratio
        row["times_faster"] = {name: round(getattr(ratio, name), 2) for name in ("median", "min", "max")}
    return row


def fastest(turns: Turns) -> float:
    """The median of the turns' fastest calls, in milliseconds: what else the machine does only adds to it."""
    return round(Spread.of([min(turn) for turn in turns]).median * 1000, 2)


if __name__ == "__main__":
    main()
