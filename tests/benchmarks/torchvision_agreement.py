#!/usr/bin/env python
"""Our detector against torchvision's three published designs, on photographs, with the same random weights.

``fasterrcnn_resnet50_fpn``, ``fasterrcnn_resnet50_fpn_v2`` and ``maskrcnn_resnet50_fpn`` with COCO's 91 slots.
Statistics and scores are fitted to the first two photographs, so that detections are distinct; slots that no object of
COCO has get the bias that training leaves them. Photographs are resized once, as ours does, since torchvision
interpolates without antialiasing; all else each side does itself, pasting masks too. A detection agrees if the other
side has one of the same class, IoU > 0.99, score within 1e-3 and, where there are masks, mask IoU > 0.98.

    python tests/benchmarks/torchvision_agreement.py --pictures PHOTOS --output results/torchvision_agreement.json

Exits with 1 if a detection has no counterpart.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from backbones.images import Picture, fit_size, read_image, resize
from backbones.running.measurement import write_measurement
from detection.agreement import Agreement, agreement
from tests.benchmarks.detectron2_agreement import find_pictures
from tests.detection.torchvision_twin import KINDS, make_twins, their_detections

SHORTER, LONGER = 800, 1333


def main() -> int:
    options = parse()
    torch.set_num_threads(options.threads)
    pictures = [read_image(path) for path in find_pictures(options.pictures)]
    pictures = [resize(picture, fit_size(picture.shape[:2], SHORTER, LONGER)) for picture in distinct(pictures)]
    pictures = pictures[: options.count]
    results = {name: compare(kind, pictures) for kind, name in KINDS.items()}
    reached = all(row["met"] == row["counted"] for row in results.values())
    if options.output:
        write_measurement(
            options.output,
            what="detections of torchvision and of ours with the same weights: same class, IoU > 0.99, score within "
            "1e-3, mask IoU > 0.98",
            command="python tests/benchmarks/torchvision_agreement.py --pictures PHOTOS "
            "--output results/torchvision_agreement.json",
            target={"rate": 1, "reached": reached},
            settings={"weights": "random, seed 0", "sizes": [list(picture.shape[:2]) for picture in pictures]},
            results=results,
        )
    return 0 if reached else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", required=True, help="photographs, or folders of them")
    parser.add_argument("--count", type=int, default=10, help="so many photographs, of different shapes first")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="write a JSON file")
    return parser.parse_args()


def distinct(pictures: list[Picture]) -> list[Picture]:
    """Those whose shape has not been seen yet go first."""
    seen: set[tuple[int, ...]] = set()
    again = []
    for number, picture in enumerate(pictures):
        again.append((picture.shape[:2] in seen, number))
        seen.add(picture.shape[:2])
    return [pictures[number] for _, number in sorted(again)]


def compare(kind: str, pictures: list[Picture]) -> dict[str, Any]:
    """One design on all photographs."""
    fitted_to = [torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255 for picture in pictures[:2]]
    theirs, ours = make_twins(50, 0, SHORTER, kind=kind, pictures=fitted_to, longer=LONGER)
    total = Agreement(0, 0, 0, 0)
    seconds = np.zeros(2)
    labels: set[int] = set()
    for picture in pictures:
        started = time.perf_counter()
        expected = their_detections(theirs, [picture], ours.settings.category_ids)
        middle = time.perf_counter()
        found = ours.predict([picture], threshold=0)
        seconds += (middle - started, time.perf_counter() - middle)
        same = agreement(expected, found)
        print(f"  {picture.shape[0]} x {picture.shape[1]}: {same.met} of {same.counted}", flush=True)
        total += same
        labels |= set(found[0].labels.tolist())
    print(
        f"{KINDS[kind]}: {total.met} of {total.counted} agree, {len(labels)} classes; seconds {seconds.round(1)}",
        flush=True,
    )
    return {"counted": total.counted, "met": total.met, "missing": total.missing, "extra": total.extra}


if __name__ == "__main__":
    sys.exit(main())
