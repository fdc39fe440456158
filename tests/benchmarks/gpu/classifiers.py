"""Items that train classification networks."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from backbones.pretraining.options import TrainingOptions
from backbones.pretraining.training import train
from backbones.running.run_folder import STATE, WEIGHTS, RunFolder
from tests.benchmarks import cifar_speed, resnet50_speed
from tests.benchmarks.cifar_runs import run_recipe
from tests.benchmarks.collect_runs import entries_of, read_finished_run
from tests.benchmarks.gpu.data import unpack_cifar
from tests.benchmarks.gpu.item import Finding, Place, Record
from tests.benchmarks.gpu.travel import RUNS

_PACE = {"log_every": 500, "evaluate_every": 4000, "checkpoint_every": 2000}
_TINY: dict[str, Any] = {
    "iterations": 2, "batch_size": 4, "log_every": 1, "evaluate_every": 2, "checkpoint_every": 1,
}  # fmt: skip
GRAPH_TARGETS = {"resnet20": 5.0, "resnet110": 2.5}


def recipe(place: Place, record: Record, *, arch: str, seconds: float | None = None) -> Finding:
    """Section 4.2's whole recipe, one seed, from where an earlier tour stopped; at most so many seconds are wanted."""
    folder = Path(RUNS) / arch
    dataset = unpack_cifar(place.data, _cores(place))
    changes: dict[str, Any] = place.size(_PACE, _TINY)
    run_recipe(arch, dataset, folder, place.device, precision="bf16", **changes)
    entries = entries_of([read_finished_run(folder)])
    record.results = entries
    for name in (STATE, WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    error, took = entries[0]["top1_error"][0], entries[0]["seconds"][0]
    return Finding(f"test error {error:.2f} % after {took:.0f} s", None if seconds is None else took <= seconds)


def graph_speed(place: Place, record: Record) -> Finding:
    """Steps per second as one CUDA graph in bf16, and of a plain eager loop in fp32."""
    data = cifar_speed.noise(place.size(10_000, 32))
    batch, pairs, warm = place.size((cifar_speed.BATCH, 3, 20), (4, 1, 1))
    ratios = {}
    for arch, steps in (("resnet20", 200), ("resnet110", 50)):

        def measure(arch: str = arch, steps: int = steps) -> Any:
            torch.backends.cudnn.benchmark = True
            makers = {"graph": cifar_speed.fast, "plain": cifar_speed.plain}
            made = {name: make(arch, data, place.torch_device, "bf16", batch) for name, make in makers.items()}
            return cifar_speed.measure(made, place.size(steps, 1), pairs, place.torch_device, warm)

        ratios[arch] = record.once(arch, measure)["graph / plain"]["median"]
    shown = ", ".join(f"{arch} {ratio:.2f} times" for arch, ratio in ratios.items())
    return Finding(shown, all(ratios[arch] >= target for arch, target in GRAPH_TARGETS.items()))


def resnet50_step(place: Place, record: Record) -> Finding:
    """ResNet-50's training step against torchvision's, both compiled, in bf16."""
    full = {"batch": 256, "steps": 20, "pairs": 3}
    tiny = {"batch": 2, "steps": 1, "pairs": 1, "size": 32, "peak_side": 64}
    settings = resnet50_speed.Settings(device=place.device, precision="bf16", compile=True, **place.size(full, tiny))
    found = record.once("step", lambda: resnet50_speed.measure(settings))
    ratio, share = found["ratio"]["median"], found["share_of_peak"]["median"]
    summary = f"{ratio:.2f} times torchvision's rate, {share:.0%} of the peak, {found['ours']['median']:.0f} images/s"
    return Finding(summary, ratio >= 1.0)


def deepest(place: Place, record: Record) -> Finding:
    """ResNet-1202 with one block's activations at a time: its rate and its memory."""
    found = record.once("ResNet-1202", lambda: _train_briefly(place))
    memory = f", {found['GiB']:.1f} GiB" if "GiB" in found else ""
    return Finding(f"{found['images_per_second']:.0f} images/s{memory}, loss {found['loss']:.2f}")


def _train_briefly(place: Place) -> dict[str, float]:
    folder = Path("try-resnet1202")
    shutil.rmtree(folder, ignore_errors=True)
    dataset = unpack_cifar(place.data, _cores(place))
    pace = {"iterations": 500, "log_every": 50, "evaluate_every": 500, "checkpoint_every": 500}
    begun = time.monotonic()
    train(TrainingOptions(
        arch=place.size("resnet1202", "resnet110"), dataset=dataset, val_split="test", device=place.device,
        precision="bf16", checkpoint_activations=True, output=str(folder), tensorboard=False,
        **place.size(pace, _TINY),
    ))  # fmt: skip
    seconds = time.monotonic() - begun
    records = [entry for entry in RunFolder(folder).read_records() if "time" in entry]
    shutil.rmtree(folder)
    steady = [entry["time"]["images_per_second"] for entry in records[1:]]
    return {
        "images_per_second": median(steady), "loss": records[-1]["loss"], "seconds": round(seconds, 1), **memory(place)
    }  # fmt: skip


def memory(place: Place) -> dict[str, float]:
    """The most that was allocated on a GPU, in GiB; nothing on a CPU."""
    return {"GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if place.device == "cuda" else {}


def _cores(place: Place) -> int:
    return place.size(len(os.sched_getaffinity(0)), 1)
