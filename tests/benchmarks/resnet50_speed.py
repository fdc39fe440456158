#!/usr/bin/env python
"""ResNet-50's training step on noise: ours against torchvision's in the same loop, and the share of the device's peak.

    python tests/benchmarks/resnet50_speed.py --device cuda --batch 256 --precision bf16 --compile \\
        --output results/resnet50_speed_gpu.json

The peak is measured: the best rate of a large matrix product in the same precision on the same device.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torchvision
from torch import nn

from backbones.building import build_backbone
from backbones.complexity import count_multiply_adds
from backbones.pretraining.recipes import IMAGENET
from backbones.pretraining.steps import Learner, make_optimizer
from backbones.running.measurement import write_measurement
from backbones.running.precision import autocast, gradient_scaler

WHAT = "ResNet-50 (v1.5) training on noise, images per second: ours against torchvision's in the same loop"


@dataclass(frozen=True)
class Settings:
    """What is measured, as ``--help`` says it."""

    device: str = "cpu"
    batch: int = 8
    size: int = 224
    precision: str = "fp32"
    compile: bool = False
    steps: int = 10
    pairs: int = 5
    peak_side: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--compile", action="store_true", help="both networks, alike")
    parser.add_argument("--steps", type=int, default=10, help="of each measurement")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--peak-side", type=int, default=0, help="of the matrices; 0 for 8192 on a GPU, else 2048")
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    settings = {key: value for key, value in vars(options).items() if key != "output"}
    results = measure(Settings(**settings))
    print(results)
    if options.output:
        write_measurement(options.output, what=WHAT, settings=settings, results=results)


def measure(settings: Settings) -> dict[str, dict[str, float]]:
    """Images per second of both, taken in turn, ours over torchvision's, and ours as a share of the peak."""
    device = torch.device(settings.device)
    torch.backends.cudnn.benchmark = True
    networks = {"ours": build_backbone("resnet50_v15"), "torchvision": torchvision.models.resnet50()}
    # Forward and twice as much backward; a multiply-add is two operations.
    work = 6 * count_multiply_adds(networks["ours"], settings.size)
    steps = {name: make_step(network, settings, device) for name, network in networks.items()}
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(settings.pairs + 1):
        for name, step in steps.items():
            seconds = time_of(step, settings.steps, device)
            if round_:
                rates[name].append(settings.steps * settings.batch / seconds)
    ratios = [a / b for a, b in zip(rates["ours"], rates["torchvision"], strict=True)]
    results = {name: spread(values) for name, values in {**rates, "ratio": ratios}.items()}
    peak = peak_rate(device, settings.precision, settings.peak_side)
    results["share_of_peak"] = {"median": round(results["ours"]["median"] * work / peak, 4), "peak_tflops": peak / 1e12}
    return results


def make_step(network: nn.Module, settings: Settings, device: torch.device) -> Callable[[], None]:
    network = network.to(device, memory_format=torch.channels_last).train()
    if settings.compile:
        network.compile()
    learner = Learner(network, make_optimizer(network, IMAGENET), gradient_scaler(device, "fp32"), settings.precision)
    shape = (settings.batch, 3, settings.size, settings.size)
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (settings.batch,), device=device)
    learner.set_rate(1e-4)
    return lambda: void(learner.learn(images, labels))


def void(_: object) -> None:
    pass


def time_of(function: Callable[[], None], count: int, device: torch.device) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def peak_rate(device: torch.device, precision: str, side: int = 0) -> float:
    """Operations per second of a square matrix product."""
    side = side or (8192 if device.type == "cuda" else 2048)
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    if precision == "bf16":
        a, b = a.bfloat16(), b.bfloat16()
    with autocast(device, "fp32"):
        seconds = min(time_of(lambda: void(a @ b), 5, device) for _ in range(4)) / 5
    return 2 * side**3 / seconds


def spread(values: list[float]) -> dict[str, float]:
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
