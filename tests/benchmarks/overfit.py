#!/usr/bin/env python
"""Eight real images learned by heart, as they are: crowds, difficult objects, greyscale, images without objects.

    python tests/benchmarks/overfit.py --dataset voc:data/voc2012_100/VOC2012 --weights FILE.pth.xz \\
        --output results/overfit_voc2012.json
    python tests/benchmarks/overfit.py --dataset coco:data/coco100 --weights FILE.pth.xz \\
        --anchor-sizes 16 32 64 128 256 --unmirrored --iterations 700 --learning-rate 0.06 \\
        --output results/overfit_coco.json

A detector that cannot learn eight images has a fault that a large run would hide. Exits with 1 if AP50 is below 0.95.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

import detection.data.datasets as datasets
from backbones.running.measurement import SMALL, write_measurement
from detection.building import load_detector
from detection.data.annotations import Annotations, DetectionData, PictureFiles
from detection.evaluation import detect_all, score
from detection.training.options import TrainingOptions
from detection.training.run import train

AP50, IMAGES, SIDE = 0.95, 8, 320


def main() -> int:
    options = parse()
    data, _ = datasets.read_dataset(options.dataset, options.split)
    data = replace(subset(data, chosen_images(data.annotations)), mirrored=not options.unmirrored)
    for line in describe(data.annotations):
        print(line)
    with tempfile.TemporaryDirectory() as folder:
        run, seconds = overfit(options, data, folder)
        found = detect_all(load_detector(run).predict_each, data, IMAGES)
    metrics = score(found, data.annotations).metrics
    reached = metrics["AP50"] >= AP50
    print(f"AP {metrics['AP']:.4f}  AP50 {metrics['AP50']:.4f} (mark {AP50})  {seconds / 60:.1f} minutes")
    if options.output:
        write_measurement(
            options.output,
            what=f"eight images of {options.dataset} learned by heart, ResNet-18 FPN, shorter side {SIDE}",
            scale=SMALL,
            target={"AP50": AP50, "reached": reached},
            settings={
                "iterations": options.iterations,
                "anchor sizes": options.anchor_sizes,
                "images": data.annotations.names.tolist(),
            },
            results={key: metrics[key] for key in ("AP", "AP50", "AP75")} | {"minutes": seconds / 60},
        )
    return 0 if reached else 1


def chosen_images(annotations: Annotations) -> list[int]:
    """The first with a crowd or a difficult object, the first without objects, then the first with objects."""
    counts = np.diff(annotations.first)
    special = [n for n in range(len(annotations)) if annotations.of(n).ignored.any()][:1]
    empty = np.flatnonzero(counts == 0)[:1].tolist()
    rest = [n for n in np.flatnonzero(counts).tolist() if n not in special]
    return [*special, *empty, *rest][:IMAGES]


def subset(data: DetectionData, images: list[int]) -> DetectionData:
    """Some images of a data set, as a data set."""
    whole = data.annotations
    rows = np.concatenate([np.arange(whole.first[n], whole.first[n + 1]) for n in images])
    objects = replace(
        whole.objects, boxes=whole.objects.boxes[rows], labels=whole.objects.labels[rows],
        ignored=whole.objects.ignored[rows], areas=whole.objects.areas[rows], masks=None,
    )  # fmt: skip
    first = np.concatenate(([0], np.cumsum(np.diff(whole.first)[images])))
    annotations = replace(
        whole, names=whole.names[images], image_ids=whole.image_ids[images], sizes=whole.sizes[images],
        first=first, objects=objects,
    )  # fmt: skip
    assert isinstance(data.pictures, PictureFiles)
    pictures = replace_annotations(data.pictures, annotations)
    return replace(data, annotations=annotations, pictures=pictures)


def replace_annotations(pictures: PictureFiles, annotations: Annotations) -> PictureFiles:
    """The same folder with fewer files."""
    return PictureFiles(pictures.root, annotations)


def overfit(options: argparse.Namespace, data: DetectionData, folder: str) -> tuple[Path, float]:
    """Train on the images and choose by them. The run folder, and seconds."""
    datasets.read_dataset = lambda *_, **__: (data, [])
    start = time.perf_counter()
    run = train(
        TrainingOptions(
            dataset=options.dataset, backbone="resnet18", weights=options.weights, recipe="quick", freeze=0,
            shorter=(SIDE,), test_shorter=SIDE, iterations=options.iterations, batch_size=4,
            anchor_sizes=options.anchor_sizes and tuple(options.anchor_sizes),
            learning_rate=options.learning_rate, evaluate_every=options.iterations, output=f"{folder}/run",
        )
    )  # fmt: skip
    return run, time.perf_counter() - start


def describe(annotations: Annotations) -> list[str]:
    """A line for each image."""
    return [
        f"{annotations.names[n]}: {len(annotations.of(n).labels)} objects, "
        f"{int(annotations.of(n).ignored.sum())} of them crowds or difficult"
        for n in range(len(annotations))
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--weights", required=True, help="ImageNet weights for resnet18")
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--learning-rate", type=float, default=0.04)
    parser.add_argument("--unmirrored", action="store_true", help="show each image one way only")
    parser.add_argument("--anchor-sizes", type=int, nargs="+", help="in pixels; by default the recipe's")
    parser.add_argument("--output", help="write a JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
