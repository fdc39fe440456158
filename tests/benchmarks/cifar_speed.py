#!/usr/bin/env python
"""CIFAR steps per second: the fast path against a plain eager loop, twice, in one run.

The plain loop is what most people write: fp32, torch's default SGD, one kernel after the other; once with all data on
the device and augmentation as tensor operations, once with a DataLoader of four workers and torchvision's transforms.

    python tests/benchmarks/cifar_speed.py --device cuda --arch resnet20 resnet110 --precision bf16 \\
        --output results/cifar_speed_gpu.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from backbones.building import build_backbone
from backbones.data.arrays import LabelledImages
from backbones.data.order import EndlessOrder
from backbones.normalization import Normalize
from backbones.pretraining.augmentation import crop_and_mirror
from backbones.pretraining.data import measure_convention
from backbones.pretraining.graph_steps import GraphSteps, ImagePool
from backbones.pretraining.options import TrainingOptions
from backbones.pretraining.recipes import CIFAR
from backbones.pretraining.steps import BatchPlan, DeviceData, Learner, make_optimizer
from backbones.running.keyed_random import generator
from backbones.running.measurement import write_measurement
from backbones.running.precision import gradient_scaler

BATCH = 128
Step = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["resnet20", "resnet110"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of the fast path")
    parser.add_argument("--steps", type=int, default=300, help="of each measurement")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=45_000, help="random ones, of CIFAR's size")
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    data = noise(options.images)
    results = {}
    for arch in options.arch:
        makers = {"fast": fast, "plain, data on the device": plain, "plain, DataLoader": loaded}
        steps = {name: make(arch, data, device, options.precision) for name, make in makers.items()}
        results[arch] = measure(steps, options.steps, options.pairs, device)
        print(arch, results[arch], flush=True)
    if options.output:
        write_measurement(
            options.output,
            what="CIFAR training steps per second, batch 128: the fast path against a plain eager loop in fp32",
            settings={key: value for key, value in vars(options).items() if key != "output"},
            results=results,
        )


def noise(count: int) -> LabelledImages:
    """Random pictures of CIFAR's size."""
    rng = generator(0)
    pixels = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return LabelledImages(pixels, rng.integers(0, 10, count), tuple("0123456789"))


def fast(arch: str, data: LabelledImages, device: torch.device, precision: str, batch: int = BATCH) -> Step:
    """Ours."""
    network = build_backbone(arch, 10).to(device, memory_format=torch.channels_last).train()
    learner = Learner(network, make_optimizer(network, CIFAR), gradient_scaler(device, "fp32"), precision)
    normalize = Normalize(*measure_convention(data, CIFAR, TrainingOptions())).to(device)
    pool = ImagePool(
        DeviceData.of(data, device), normalize, torch.bfloat16 if precision == "bf16" else torch.float32
    )  # fmt: skip
    stream = torch.cuda.Stream() if device.type == "cuda" else None
    steps = GraphSteps(learner, pool, BatchPlan(EndlessOrder(len(data.labels), 0), batch, 0), stream)
    numbers = iter(steps.batches(0, 10**9))

    def step() -> None:
        with steps.on_device():
            steps(next(numbers), 0.1)

    return step


def plain(arch: str, data: LabelledImages, device: torch.device, precision: str, batch: int = BATCH) -> Step:
    """A loop as it is usually written, data on the device."""
    pixels = torch.from_numpy(data.images).permute(0, 3, 1, 2).float().to(device)
    pixels -= pixels.mean(0)
    labels = torch.from_numpy(data.labels).to(device)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            for index in torch.randperm(len(labels), device=device).split(batch)[:-1]:
                draws = torch.rand(len(index), 3, device=device)
                yield crop_and_mirror(pixels[index], draws), labels[index]

    return plain_step(arch, batches(), device)


def loaded(arch: str, data: LabelledImages, device: torch.device, precision: str) -> Step:
    """The same with a DataLoader."""

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        loader = DataLoader(
            _Pictures(data), BATCH, shuffle=True, num_workers=4, pin_memory=device.type == "cuda", drop_last=True,
            persistent_workers=True,
        )  # fmt: skip
        while True:
            for images, labels in loader:
                yield images.to(device), labels.to(device)

    return plain_step(arch, batches(), device)


class _Pictures(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, data: LabelledImages) -> None:
        self.data = data
        self.transform = v2.Compose([
            v2.RandomHorizontalFlip(), v2.RandomCrop(32, 4), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.data.images[number])), int(self.data.labels[number])


def plain_step(arch: str, batches: Iterator[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> Step:
    network = build_backbone(arch, 10).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        images, labels = next(batches)
        loss = functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure(
    steps: dict[str, Step], count: int, pairs: int, device: torch.device, warm: int = 20
) -> dict[str, dict[str, float]]:
    """Steps per second of each, taken in turn, and the ratios to the first. ``warm`` steps at least go before."""
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(pairs + 1):  # the first is a warm-up
        for name, step in steps.items():
            begun = time.perf_counter()
            for _ in range(count if round_ else max(warm, count // 10)):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_:
                rates[name].append(count / (time.perf_counter() - begun))
    first = next(iter(rates))
    ratios = {
        f"{first} / {name}": [a / b for a, b in zip(rates[first], values, strict=True)]
        for name, values in rates.items()
        if name != first
    }
    return {name: spread(values) for name, values in {**rates, **ratios}.items()}


def spread(values: list[float]) -> dict[str, float]:
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
