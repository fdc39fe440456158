#!/usr/bin/env python
"""Processor seconds and memory of each part of an evaluation, on made detections as many as COCO's val2017 brings.

python tests/benchmarks/evaluation_speed.py --output results/evaluation_speed.json
python tests/benchmarks/evaluation_speed.py --masks
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from backbones.running.measurement import write_measurement
from detection.data.annotations import AnnotationBuilder, Annotations
from detection.detections import Detections
from detection.masks.compressed import CompressedMasks
from detection.masks.pasting import paste
from detection.metrics.coco import as_coco_results, as_coco_truth, evaluate_coco
from detection.metrics.confusion import confusion_matrix
from detection.metrics.errors import break_down
from detection.metrics.thresholds import best_thresholds
from detection.metrics.voc import evaluate_voc

SIZE = (480, 640)
GRID = 28


def main() -> None:
    options = parse()
    start = time.process_time()
    annotations, found = make(options)
    seconds: dict[str, float] = {"making the data": time.process_time() - start}
    print(f"making the data: {seconds['making the data']:.1f} s, {memory():.2f} GB")

    def timed(name: str, part: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = part()
        seconds[name] = round(time.process_time() - before, 2)
        print(f"{name}: {seconds[name]:.1f} s, {memory():.2f} GB", flush=True)
        return result

    ids = annotations.image_ids.tolist()
    timed("error breakdown", lambda: break_down(found, annotations))
    timed("confusion matrix", lambda: confusion_matrix(found, annotations))
    curves = timed("VOC curves", lambda: evaluate_voc(annotations, found))
    timed("thresholds", lambda: best_thresholds(curves))
    results = timed("as COCO results", lambda: as_coco_results(found, ids, annotations.category_ids))
    for backend in ("hotcoco", "pycocotools"):
        score_with(backend, options.masks, annotations, results, timed)
    if options.output:
        setup = {name: getattr(options, name) for name in ("images", "detections", "classes", "masks")}
        what = "processor seconds of each part of an evaluation"
        write_measurement(options.output, what, {"seconds": seconds, "peak_gb": round(memory(), 2)}, settings=setup)


def score_with(
    backend: str,
    masks: bool,
    annotations: Annotations,
    results: list[dict[str, Any]],
    timed: Callable[[str, Callable[[], Any]], Any],
) -> None:
    """COCO's numbers of boxes, and of masks if there are any."""
    timed(f"COCO boxes, {backend}", lambda: evaluate_coco(as_coco_truth(annotations), results, "bbox", backend))
    if masks:
        truth = as_coco_truth(annotations, masks=True)
        timed(f"COCO masks, {backend}", lambda: evaluate_coco(truth, results, "segm", backend))


def memory() -> float:
    """The most this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def make(options: argparse.Namespace) -> tuple[Annotations, list[Detections]]:
    """About 7 objects an image; a third of the detections lie near an object, most of those of its class."""
    rng = np.random.default_rng(0)
    builder = AnnotationBuilder([str(n) for n in range(options.classes)])
    found = []
    y, x = np.mgrid[:GRID, :GRID] / (GRID - 1) * 2 - 1
    grid = (1.5 - np.hypot(x, y)).astype(np.float32)
    for image in range(options.images):
        objects, labels = random_boxes(rng, rng.poisson(7) + 1), rng.integers(options.classes, size=50)
        near = rng.integers(len(objects), size=options.detections // 3)
        moved = objects[near] + rng.normal(0, 0.1, (len(near), 4)) * np.tile(objects[near, 2:] - objects[near, :2], 2)
        boxes = np.concatenate((moved, random_boxes(rng, options.detections - len(near)))).astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        chosen = rng.integers(options.classes, size=options.detections)
        chosen[: len(near)] = np.where(rng.random(len(near)) < 0.8, labels[near], chosen[: len(near)])
        scores = np.sort(rng.random(options.detections).astype(np.float32))[::-1].copy()
        masks = None
        if options.masks:
            masks = CompressedMasks.of(paste(np.repeat(grid[None], len(boxes), 0), boxes, SIZE))
            truth = CompressedMasks.of(paste(np.repeat(grid[None], len(objects), 0), objects.astype(np.float32), SIZE))
        for number, box in enumerate(objects):
            mask = truth.encoded.counts(number) if options.masks else b""
            builder.add_object(box, int(labels[number]), bool(rng.random() < 0.02), mask=mask)
        builder.add_image(f"{image}.jpg", image + 1, SIZE)
        order = rng.permutation(options.detections)
        found.append(Detections(boxes[order], scores, chosen[order], masks and CompressedMasks.of(masks[order])))
    return builder.build(), found


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, (SIZE[1] - 40, SIZE[0] - 40), (count, 2))
    extent = np.exp(rng.uniform(np.log(15), np.log(300), (count, 2)))
    return np.minimum(np.concatenate((corner, corner + extent), 1), (*SIZE[::-1], *SIZE[::-1]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
