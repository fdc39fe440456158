#!/usr/bin/env python
"""Suppression as a fixed point, by the number of boxes: its own time, beside another version of it, and how it grows.

    git show REVISION:detection/nms.py > runs/nms_before.py
    python tests/benchmarks/suppression_speed.py --before runs/nms_before.py --before-rounds 32 --threads 2 \\
        --output results/suppression_speed_cpu.json

Groups are the levels of one picture: clustered boxes, sorted by score, as a detector's anchors are before suppression.
Both versions must keep the same boxes. Beside them runs torchvision's kernel, whose work depends on what it finds. What
users meet is the exported form: either version, traced and run by OpenVINO.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import Tensor, nn

from backbones.metadata import Exported, ModelMetadata
from backbones.resize_fingerprint import resize_fingerprint
from backbones.running.measurement import write_measurement
from deploy.benchmarking.timing import Spread, Turns, summarize, take_turns
from deploy.onnx_export import trace, write_onnx
from deploy.runtimes.engines import open_session
from detection.nms import nms_by_fixed_point, nms_by_kernel
from detection.operators import ROUNDS
from tests.detection.test_nms import cases

THRESHOLD = 0.7
NOW, BEFORE, KERNEL, EXPORTED, EXPORTED_BEFORE = "now", "before", "kernel", "exported now", "exported before"


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
        EXPORTED: exported(nms_by_fixed_point, ROUNDS, boxes, valid, options.threads),
    }
    if before:
        calls[BEFORE] = lambda: before(boxes, valid, THRESHOLD, iterations=options.before_rounds)
        calls[EXPORTED_BEFORE] = exported(before, options.before_rounds, boxes, valid, options.threads)
    found = {name: call() for name, call in calls.items()}
    kept = found[KERNEL][0].numpy()
    assert all(np.array_equal(keep, kept) and bool(exact.all()) for keep, exact in found.values())
    turns = take_turns(calls, options.turns, 0.0)
    row: dict[str, Any] = {"proposals": count, "ms": {name: fastest(turn) for name, turn in turns.items()}}
    if before:
        row["times_faster"] = times_faster(turns[NOW], turns[BEFORE])
        row["exported_times_faster"] = times_faster(turns[EXPORTED], turns[EXPORTED_BEFORE])
    return row


class _Suppression(nn.Module):
    def __init__(self, form: Any, rounds: int) -> None:
        super().__init__()
        self.form, self.rounds = form, rounds

    def forward(self, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        keep, exact = self.form(boxes, valid, THRESHOLD, iterations=self.rounds)
        return keep, exact


def exported(form: Any, rounds: int, boxes: Tensor, valid: Tensor, threads: int | None) -> Any:
    """A call of the traced form in OpenVINO, for so many boxes and any number of groups."""
    groups, outputs = {0: torch.export.Dim("groups", min=1, max=4096)}, ("keep", "exact")
    example = {"boxes": boxes, "valid": valid}
    model = trace(_Suppression(form, rounds), example, outputs, dict.fromkeys(example, groups))
    facts = Exported(precision="fp32", flavour="portable", outputs=outputs, resize=resize_fingerprint())
    metadata = ModelMetadata(task="detection", architecture={}, classes=(), exported=facts)
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(model, metadata, Path(folder) / "suppression.onnx")
        session = open_session(Path(folder) / "suppression.onnx", "openvino", threads)
    inputs = {name: tensor.numpy() for name, tensor in example.items()}

    def call() -> tuple[Any, Any]:
        found = session.run(inputs)
        return found["keep"], found["exact"]

    return call


def times_faster(now: Turns, before: Turns) -> dict[str, float]:
    ratio = summarize(now, 1, before, 1).ratio
    return {name: round(getattr(ratio, name), 2) for name in ("median", "min", "max")}


def fastest(turns: Turns) -> float:
    """The median of the turns' fastest calls, in milliseconds: what else the machine does only adds to it."""
    return round(Spread.of([min(turn) for turn in turns]).median * 1000, 2)


if __name__ == "__main__":
    main()
