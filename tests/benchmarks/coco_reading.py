#!/usr/bin/env python
"""Processor seconds and memory of reading a COCO file of train2017's size, with and without masks, beside pycocotools.

    python tests/benchmarks/coco_reading.py --output results/coco_reading.json

The file is made up: pictures that are empty files, polygons of 23 points. It takes half a gigabyte of the temporary
folder. Each reading is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from backbones.running.measurement import write_measurement

WAYS = ("boxes", "masks", "pycocotools")
POINTS, CLASSES, HEIGHT, WIDTH = 23, 80, 480, 640


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--objects", type=int, default=860_001)
    parser.add_argument("--output", help="write a JSON file")
    parser.add_argument("--way", choices=WAYS, help="read --folder once, in this process")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = write(Path(folder), options.images, options.objects)
        command = [sys.executable, __file__, "--folder", folder, "--way"]
        results = {way: json.loads(subprocess.check_output([*command, way], text=True)) for way in WAYS}
    for way, row in results.items():
        print(
            f"{way:<12} {row['seconds']:6.1f} s   {row['peak_mb']:6.0f} MB at the most   {row['kept_mb']:6.0f} MB kept"
        )
    if options.output:
        write_measurement(
            options.output,
            what="reading a COCO file: processor seconds, most and kept megabytes; pycocotools keeps what it parses",
            images=options.images,
            objects=options.objects,
            megabytes=round(size / 1e6),
            results=results,
        )


def measure(way: str, folder: Path) -> dict[str, float]:
    """One reading; memory above that of the imports."""
    from pycocotools.coco import COCO

    from detection.data.coco import read_coco

    before, begun = resident(), time.process_time()
    if way == "pycocotools":
        sys.stdout, shown = sys.stderr, sys.stdout
        kept: object = COCO(str(folder / "annotations" / "instances_train2017.json"))
        sys.stdout = shown
    else:
        kept, faults = read_coco(folder, "train", masks=way == "masks")
        assert not faults
    seconds = time.process_time() - begun
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    row = {"seconds": round(seconds, 1), "peak_mb": round(most - before), "kept_mb": round(resident() - before)}
    del kept
    return row


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def write(folder: Path, images: int, objects: int) -> int:
    """The file and its empty pictures; the file's length."""
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir()
    (folder / "train2017").mkdir()
    path = folder / "annotations" / "instances_train2017.json"
    categories = [{"id": number + 1, "name": f"class {number}"} for number in range(CLASSES)]
    with path.open("w") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        for number in range(images):
            name = f"{number:012d}.jpg"
            (folder / "train2017" / name).touch()
            url = f"http://images.cocodataset.org/train2017/{name}"
            entry = {"license": 3, "file_name": name, "coco_url": url, "height": HEIGHT, "width": WIDTH, "id": number}
            file.write((", " if number else "") + json.dumps(entry))
        file.write('], "annotations": [')
        for number in range(objects):
            file.write((", " if number else "") + json.dumps(annotation(rng, number, images)))
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return path.stat().st_size


def annotation(rng: np.random.Generator, number: int, images: int) -> dict[str, object]:
    """A star around a place in a picture."""
    draws = rng.random(POINTS + 3)
    x, y = float(draws[0] * (WIDTH - 20) + 10), float(draws[1] * (HEIGHT - 20) + 10)
    radius = 10 + float(draws[2]) ** 3 * 200
    polygon = []
    for point in range(POINTS):
        angle, reach = 2 * math.pi * point / POINTS, radius * (0.5 + float(draws[point + 3]) / 2)
        polygon += [
            round(min(max(x + reach * math.cos(angle), 0), WIDTH), 2),
            round(min(max(y + reach * math.sin(angle), 0), HEIGHT), 2),
        ]
    left, top = min(polygon[::2]), min(polygon[1::2])
    box = [left, top, round(max(polygon[::2]) - left, 2), round(max(polygon[1::2]) - top, 2)]
    return {
        "segmentation": [polygon], "area": round(radius * radius, 2), "iscrowd": 0, "image_id": number * 7 % images,
        "bbox": box, "category_id": number % CLASSES + 1, "id": number,
    }  # fmt: skip


if __name__ == "__main__":
    main()
