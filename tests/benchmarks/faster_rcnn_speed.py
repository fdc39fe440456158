#!/usr/bin/env python
"""Training step and inference of our Faster R-CNN against torchvision's, with the same weights, in one process.

Pairs are interleaved, so that both meet the same machine; what counts is the ratio. Proposal and region counts
are equal. Both keep batch normalization fixed and train the stages from conv3_x on, as torchvision's builder does with
pretrained weights.

    python tests/benchmarks/faster_rcnn_speed.py --output results/faster_rcnn_speed_cpu.json
    python tests/benchmarks/faster_rcnn_speed.py --device cuda --size 800 1333 --batch 16 --precision bf16 \
        --their-precision bf16 --compile --output results/faster_rcnn_speed_gpu.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from backbones.running.measurement import write_measurement
from backbones.running.precision import autocast
from detection.operators import COMPILED
from detection.targets import Targets
from detection.training.job import Losses
from tests.detection.torchvision_twin import make_twins

OBJECTS = 8


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    device = torch.device(options.device)
    height, width = options.size
    theirs, ours = make_twins(50, classes=90, size=min(height, width))
    theirs, ours = theirs.to(device), ours.to(device)
    if options.channels_last:
        theirs = theirs.to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (options.batch, 3, height, width), dtype=torch.uint8, device=device)
    padded = pad(images)
    boxes = make_boxes(options.batch, height, width).to(device)
    labels = torch.randint(0, 90, (options.batch, OBJECTS), device=device)
    targets = Targets(
        boxes, labels, torch.ones_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool),
        torch.tensor([[height, width]] * options.batch, device=device), torch.arange(options.batch, device=device),
    )  # fmt: skip
    listed = [{"boxes": b, "labels": n + 1} for b, n in zip(boxes, labels, strict=True)]
    losses_of = Losses(ours)
    detect: Callable[..., object] = ours.detect
    if options.compile:
        ours.operators = COMPILED
        losses_of.compile(fullgraph=True)
        detect = torch.compile(ours.detect, fullgraph=True)

    def our_step() -> None:
        with autocast(device, options.precision):
            losses = losses_of(padded.contiguous(memory_format=torch.channels_last), targets)
        step(sum(losses.values()), our_optimizer)

    def their_step() -> None:
        with autocast(device, options.their_precision):
            losses = theirs([image.float() / 255 for image in images], listed)
        step(sum(losses.values()), their_optimizer)

    def our_inference() -> None:
        with torch.inference_mode(), autocast(device, options.precision):
            detect(padded.contiguous(memory_format=torch.channels_last), targets.sizes)

    def their_inference() -> None:
        with torch.inference_mode(), autocast(device, options.their_precision):
            theirs([image.float() / 255 for image in images])

    our_optimizer, their_optimizer = optimizer_of(ours), optimizer_of(theirs)
    results = {}
    for name, ours_does, theirs_does in (
        ("training step", our_step, their_step),
        ("inference", our_inference, their_inference),
    ):
        ours.train(name == "training step")
        theirs.train(name == "training step")
        results[name] = compare(ours_does, theirs_does, options.pairs, device)
        print(name, results[name], flush=True)
    if options.output:
        write_measurement(
            options.output,
            what="Faster R-CNN R50-FPN, ours against torchvision's; seconds, and the ratio pair by pair",
            settings={key: value for key, value in vars(options).items() if key != "output"},
            results=results,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="ours")
    parser.add_argument("--their-precision", default="fp32", choices=("fp32", "bf16"), help="torchvision's")
    parser.add_argument("--compile", action="store_true", help="ours as one compiled graph")
    parser.add_argument("--channels-last", action="store_true", help="torchvision's too; ours always is")
    parser.add_argument("--output", help="write a JSON file")
    return parser.parse_args()


def pad(images: torch.Tensor) -> torch.Tensor:
    """To multiples of 32, as torchvision does inside."""
    height, width = images.shape[2:]
    return torch.nn.functional.pad(images, (0, -width % 32, 0, -height % 32))


def make_boxes(batch: int, height: int, width: int) -> torch.Tensor:
    corner = torch.rand(batch, OBJECTS, 2) * torch.tensor([width, height]) * 0.6
    extent = torch.rand(batch, OBJECTS, 2) * torch.tensor([width, height]) * 0.35 + 16
    return torch.cat((corner, corner + extent), -1)


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    """A rate too small to change the weights' behaviour while it is measured."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(learned, lr=1e-8, momentum=0.9, weight_decay=1e-4)


def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def compare(
    ours: Callable[[], None], theirs: Callable[[], None], pairs: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """One warm-up of each, then pairs. On a GPU also the peak of its memory, in GiB."""
    seconds: dict[str, list[float]] = {"ours": [], "torchvision": []}
    peak: dict[str, list[float]] = {"ours GiB": [], "torchvision GiB": []}
    for round_ in range(pairs + 1):
        for name, function in (("ours", ours), ("torchvision", theirs)):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            begun = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()
                peak[f"{name} GiB"].append(torch.cuda.max_memory_allocated() / 2**30)
            if round_:
                seconds[name].append(time.perf_counter() - begun)
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["torchvision"], strict=True)]
    measured = {**seconds, "ratio": ratios, **{name: values for name, values in peak.items() if values}}
    return {name: spread(values) for name, values in measured.items()}


def spread(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    return {"min": round(min(values), 4), "median": round(middle, 4), "max": round(max(values), 4)}


if __name__ == "__main__":
    main()
