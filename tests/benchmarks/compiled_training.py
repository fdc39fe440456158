#!/usr/bin/env python
"""How many graphs a compiled training needs for real pictures, and how long before it runs without compiling.

The batches are those that ``detection/train.py --compile`` would see: their padded sizes, and their numbers of ground
truth slots. The first batch of each pair is read and trained on, forward and backward, by a narrow network compiled for
real but for code generation (``aot_eager``), so that graphs are counted anywhere; ``--backend inductor`` generates it.

    python tests/benchmarks/compiled_training.py --dataset coco:data/coco100 --output results/compiled_training.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from backbones import register_backbone
from backbones.contract import Backbone
from backbones.images import Size
from backbones.running.measurement import write_measurement
from detection.building import build_detector
from detection.data.annotations import DetectionData
from detection.data.batches import SLOTS, BatchPlanner, TrainingBatches
from detection.data.datasets import read_checked
from detection.operators import COMPILED
from detection.settings import DetectorSettings, default_settings
from detection.training.tasks import compile_losses

GRAPHS, LAST_NEW = 4, 50
"""At most so many graphs, none of them after so many steps."""


class NarrowNetwork(Backbone):
    """One convolution of eight channels for each of c1 to c5: as many maps as a ResNet has, at next to no cost."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        names = [f"c{number}" for number in range(1, 6)]
        self.out_channels = dict.fromkeys(names, 8)
        self.out_strides = {name: 2**number for number, name in enumerate(names, start=1)}
        self.convs = nn.ModuleList(nn.Conv2d(3 if name == "c1" else 8, 8, 3, stride=2, padding=1) for name in names)

    def features(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        maps = {}
        for name, conv in zip(self.out_strides, self.convs, strict=True):
            images = maps[name] = conv(images).relu()
        return maps

    def truncate(self, last: str) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="coco:data/coco100")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--shorter", type=int, nargs="+", default=(640, 672, 704, 736, 768, 800))
    parser.add_argument("--longer", type=int, default=1333)
    parser.add_argument("--backend", default="aot_eager")
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    data = read_checked(options.dataset, "train")
    few, free = (planner_of(data, options, few_sizes) for few_sizes in (True, False))
    results = compiled(data, few, options) | {"pixels": {"few sizes / as they fall": added(few, free, options.steps)}}
    results |= {"graphs met": results["graphs"] <= GRAPHS and results["last new at step"] < LAST_NEW}
    print(results)
    if options.output:
        write_measurement(
            options.output,
            what="graphs of a compiled training over the sizes and slots of real pictures, with a narrow network",
            settings={key: value for key, value in vars(options).items() if key not in ("output", "dataset")},
            targets={"graphs": GRAPHS, "last new at step": LAST_NEW},
            results=results,
        )


def planner_of(data: DetectionData, options: argparse.Namespace, few_sizes: bool) -> BatchPlanner:
    return BatchPlanner(
        data.annotations.sizes, options.batch, 0, shorter=tuple(options.shorter), longer=options.longer,
        mirrored=data.mirrored, few_sizes=few_sizes,
    )  # fmt: skip


def compiled(data: DetectionData, planner: BatchPlanner, options: argparse.Namespace) -> dict[str, Any]:
    """Train on the first batch of each kind; graphs, the step of the last new one, and seconds by kind."""
    counter = CompileCounterWithBackend(options.backend)
    detector = build_detector(narrow(data.annotations.classes)).train()
    detector.operators = COMPILED
    losses_of = compile_losses(detector, backend=counter)
    batches = TrainingBatches(data, planner)
    last, kinds = 0, []
    for step, padded, slots in first_of_each_kind(data, planner, options.steps):
        batch = batches[step]
        before, begun = counter.frame_count, time.perf_counter()
        torch.stack(list(losses_of(batch.images, batch.targets.with_free_slots()).values())).sum().backward()
        seconds, new = time.perf_counter() - begun, counter.frame_count > before
        last = step if new else last
        kinds.append({"step": step, "size": padded, "slots": slots, "new graph": new, "seconds": round(seconds, 1)})
        print(kinds[-1], flush=True)
    return {
        "graphs": counter.frame_count, "last new at step": last, "seconds before the first step": kinds[0]["seconds"],
        "kinds": kinds,
    }  # fmt: skip


def narrow(classes: tuple[str, ...]) -> DetectorSettings:
    register_backbone("narrow", NarrowNetwork)
    return default_settings("narrow", classes, channels=8, vector=16)


def first_of_each_kind(data: DetectionData, planner: BatchPlanner, steps: int) -> Iterator[tuple[int, Size, int]]:
    """(step, padded size, slots) of each pair that no earlier step had."""
    seen = set()
    for step in range(steps):
        plan = planner.plan(step)
        most = max(len(data.annotations.of(int(image)).labels) for image in plan.images)
        kind = (plan.padded, max(1, -(-most // SLOTS)) * SLOTS)
        if kind not in seen:
            seen.add(kind)
            yield step, *kind


def added(few: BatchPlanner, free: BatchPlanner, steps: int) -> float:
    """Pixels of all batches, over those without a limit on sizes."""
    totals = [sum(h * w for h, w in (planner.plan(step).padded for step in range(steps))) for planner in (few, free)]
    return round(totals[0] / totals[1], 4)


if __name__ == "__main__":
    main()
