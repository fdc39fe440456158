#!/usr/bin/env python
"""Decode, crop and resize on one core, as ImageNet's training does: ours against stock parts on the same files.

    python tests/benchmarks/decode_speed.py --dataset folder:data/imagenet60 --output results/decode_speed.json

The stock parts are Pillow and torchvision's transforms v2, which resize the whole picture before cropping.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from backbones.data.datasets import read_classification
from backbones.data.decoding import decode
from backbones.pretraining.augmentation import scale_jitter
from backbones.pretraining.streams import cut
from backbones.running.keyed_random import generator
from backbones.running.measurement import write_measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="folder:data/imagenet60")
    parser.add_argument("--split", default="all")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = read_classification(options.dataset, options.split)
    contents = [data.content(number) for number in range(len(data.labels))]
    rates: dict[str, list[float]] = {"ours": [], "pillow and torchvision": []}
    for _ in range(options.pairs):
        for name, function in (("ours", ours), ("pillow and torchvision", theirs())):
            rates[name].append(rate(function, contents))
    ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
    results = {name: spread(values) for name, values in {**rates, "ratio": ratios}.items()}
    print(results)
    if options.output:
        sizes = [decode(content, "").shape[:2] for content in contents]
        write_measurement(
            options.output,
            what="decode, scale jitter, crop of 224: images per second on one core, ours against stock parts",
            images=len(contents),
            mean_size=[round(float(side), 1) for side in np.mean(sizes, 0)],
            results=results,
        )


def ours(content: bytes, number: int) -> object:
    picture = decode(content, "")
    draws = tuple(generator(number).random(4).tolist())
    return cut(picture, scale_jitter(draws, (picture.shape[0], picture.shape[1])))


def theirs() -> Callable[[bytes, int], object]:
    transform = v2.Compose([
        v2.RandomShortestSize(min_size=list(range(256, 481))), v2.RandomCrop(224), v2.RandomHorizontalFlip(),
    ])  # fmt: skip
    return lambda content, _: np.asarray(transform(Image.open(io.BytesIO(content)).convert("RGB")))


def rate(function: Callable[[bytes, int], object], contents: list[bytes]) -> float:
    """Images per second."""
    begun = time.perf_counter()
    for number, content in enumerate(contents):
        function(content, number)
    return len(contents) / (time.perf_counter() - begun)


def spread(values: list[float]) -> dict[str, float]:
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
