#!/usr/bin/env python
"""What a large data set's annotations cost each process that reads images: memory of its own, and whether it grows.

Annotations are flat arrays, so workers share them with the process that made them. Lists of objects would be copied
page by page as their reference counts change.

    python tests/benchmarks/annotation_memory.py --output results/annotation_memory.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from torch.utils.data import DataLoader

from backbones.images import Picture
from backbones.running.measurement import write_measurement
from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.data.batches import BatchPlanner, TrainingBatches

SIDE, BATCH = 64, 16
OBJECTS, MASK_BYTES = 7, 120
"""Of each image of COCO, about; a mask's compressed run lengths."""


class GreyPictures:
    """The same small picture for every image, so that only annotations take memory."""

    def __getitem__(self, image: int, /) -> Picture:
        return np.full((SIDE, SIDE, 3), 128, np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=250_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    before = memory_of("self")["resident"]
    data = make_data(options.images)
    annotations = memory_of("self")["resident"] - before
    planner = BatchPlanner(data.annotations.sizes, BATCH, 0, shorter=(SIDE,), longer=SIDE, mirrored=True)
    loader = DataLoader(
        TrainingBatches(data, planner), batch_size=None, sampler=range(options.steps), num_workers=options.workers,
        multiprocessing_context="fork",
    )  # fmt: skip
    batches = iter(loader)
    own: list[float] = []
    for step in range(options.steps):
        next(batches)
        if step in (options.steps // 10, options.steps - 1 - 3 * options.workers):  # the workers are still there
            own.append(sum(memory_of(worker.pid)["own"] for worker in batches._workers) / options.workers)
    results = {"annotations": annotations, "own of each worker, early": own[0], "own of each worker, late": own[1]}
    print({name: f"{value / 2**20:.0f} MiB" for name, value in results.items()})
    if options.output:
        write_measurement(
            options.output,
            what="memory of annotations in the processes that read images, MiB",
            settings={key: value for key, value in vars(options).items() if key != "output"},
            results={name: round(value / 2**20, 1) for name, value in results.items()},
        )
    return 0


def make_data(images: int) -> DetectionData:
    """Boxes and masks as many as a large data set has."""
    builder = AnnotationBuilder(("thing",))
    text = b"0" * MASK_BYTES
    for number in range(images):
        for place in range(OBJECTS):
            builder.add_object((place, place, place + 20.0, place + 30.0), 0, mask=text)
        builder.add_image(f"{number:012d}.jpg", number, (SIDE, SIDE))
    return DetectionData("made", builder.build(), GreyPictures())


def memory_of(process: int | str) -> dict[str, float]:
    """Bytes that are resident, and those of them that no other process shares (Linux)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    sizes = {line.split(":")[0]: 1024 * float(line.split()[1]) for line in lines}
    return {"resident": sizes["Rss"], "own": sizes["Private_Clean"] + sizes["Private_Dirty"]}


if __name__ == "__main__":
    sys.exit(main())
