#!/usr/bin/env python
"""Eight real images, their classes painted from masks, learned by heart by a segmenter: crowds and empty images too.

    python tests/benchmarks/overfit_segmentation.py --dataset coco:data/coco100 --weights FILE.pth.xz \\
        --output results/overfit_segmentation_coco.json

A segmenter that cannot learn eight images has a fault that a large run would hide. Exits with 1 if mIoU is below 0.8.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import detection.training.tasks as tasks
from backbones.running.measurement import SMALL, write_measurement
from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.segmentation.building import load_segmenter
from detection.segmentation.datasets import read_segmentation
from detection.segmentation.evaluation import evaluate_segmenter
from detection.segmentation.labelled_images import SegmentationData
from detection.training.options import TrainingOptions
from detection.training.run import train
from tests.benchmarks.overfit import chosen_images

MIOU, SIDE, CROP, STRIDE = 0.8, 128, 192, 8


def main() -> int:
    options = parse()
    whole, _ = read_segmentation(options.dataset, options.split)
    data = subset(whole, chosen_images(whole.images.annotations))
    tasks.read_segmentation = lambda *_, **__: (data, [])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = train(
            TrainingOptions(
                head="fcn", dataset=options.dataset, backbone="resnet18", weights=options.weights, recipe="quick",
                output_stride=STRIDE, crop=CROP, shorter=(SIDE,), test_shorter=SIDE, scales=(1.0, 1.0),
                warmup_images=20, iterations=options.iterations,
                learning_rate=options.learning_rate, evaluate_every=options.iterations, output=f"{folder}/run",
            )
        )  # fmt: skip
        seconds = time.perf_counter() - start
        marks = evaluate_segmenter(load_segmenter(run).predict_each, data, 1)
    metrics, classes = marks.metrics, {name: iou for name, iou in marks.per_class.items() if iou >= 0}
    reached = metrics["mIoU"] >= MIOU
    print(f"mIoU {metrics['mIoU']:.4f} (mark {MIOU}) of {len(classes)} classes  {seconds / 60:.1f} minutes")
    if options.output:
        write_measurement(
            options.output,
            what=f"eight images of {options.dataset} learned by heart, ResNet-18 FCN at stride {STRIDE}, side {SIDE}",
            scale=SMALL,
            target={"mIoU": MIOU, "reached": reached},
            settings={"iterations": options.iterations, "images": data.images.annotations.names.tolist()},
            results={**metrics, "per_class": classes, "minutes": seconds / 60},
        )
    return 0 if reached else 1


def subset(data: SegmentationData, images: list[int]) -> SegmentationData:
    """Some images of a data set, in memory."""
    pictures, labels = zip(*((data.images.pictures[image], data.labels[image]) for image in images), strict=True)
    builder = AnnotationBuilder(data.classes[1:])
    for number, (image, picture) in enumerate(zip(images, pictures, strict=True), start=1):
        builder.add_image(str(data.images.annotations.names[image]), number, picture.shape[:2])
    return SegmentationData(DetectionData(data.images.name, builder.build(), pictures), labels, data.classes)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--weights", required=True, help="ImageNet weights for resnet18")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=0.04)
    parser.add_argument("--output", help="write a JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
