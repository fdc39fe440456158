#!/usr/bin/env python
"""Training step and inference of our Faster R-CNN against torchvision's, with the same weights, in one process.

Both take turns in each precision, so that all meet the same machine; what counts is the ratio. Unless told otherwise
ours in fp32 meets torchvision's in fp32, and ours in bf16 meets both: sizes, batches and these pairs give one row
each. Proposal and region counts are equal. Both keep batch normalization fixed and train the stages from conv3_x on,
as torchvision's builder does with pretrained weights.

    python tests/benchmarks/faster_rcnn_speed.py --output results/faster_rcnn_speed_cpu.json
    python tests/benchmarks/faster_rcnn_speed.py --device cuda --size 800 1333 --batch 16 --precision bf16 \
        --their-precision bf16 --compile --output results/faster_rcnn_speed_gpu.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from backbones.running.measurement import write_measurement
from backbones.running.precision import autocast
from deploy.benchmarking.timing import take_turns
from detection.operators import COMPILED
from detection.targets import Targets
from detection.training.tasks import Losses, compile_losses
from tests.detection.torchvision_twin import make_twins

OBJECTS = 8
SIZES = ((256, 256), (480, 480))
PAIRS = (("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "bf16"))
"""Our precision and torchvision's."""
TASKS = ("training step", "inference")
TARGETS = {
    ("training step", 480): {("fp32", "fp32"): 1.0, ("bf16", "fp32"): 0.8},
    ("inference", 480): {("fp32", "fp32"): 1.0, ("bf16", "fp32"): 0.8, ("bf16", "bf16"): 0.9},
    ("inference", 256): {("fp32", "fp32"): 1.0},
}
"""The most that our share of torchvision's time is to be on a processor, by task and shorter side, then by pair."""
Call = Callable[[], None]
Calls = dict[str, Call]
"""By whose and which precision, as ``side_name`` puts it."""
Spread = dict[str, float]


@dataclass
class Timed:
    """A call's seconds and, on a GPU, the peaks of memory in GiB, turn by turn."""

    seconds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)


def main() -> None:
    options = parse()
    results = [
        row for size in options.size for batch in options.batch for row in rows_of(tuple(size), batch, options)
    ]  # fmt: skip
    if options.output:
        write_measurement(
            options.output,
            what="Faster R-CNN R50-FPN, ours against torchvision's; seconds, and the ratio turn by turn",
            settings={key: value for key, value in vars(options).items() if key != "output"},
            results=results,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="turns of each side")
    parser.add_argument("--size", type=int, nargs=2, action="append", metavar=("HEIGHT", "WIDTH"), help="repeatable")
    parser.add_argument("--batch", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--task", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="ours; by default every pair is measured")
    parser.add_argument("--their-precision", choices=("fp32", "bf16"), help="torchvision's")
    parser.add_argument("--compile", action="store_true", help="ours as one compiled graph")
    parser.add_argument("--channels-last", action="store_true", help="torchvision's too; ours always is")
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    options.size = options.size or SIZES
    return options


def rows_of(size: tuple[int, int], batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each pair of precisions, all of them timed in the same turns."""
    asked = options.precision or options.their_precision
    pairs = [(options.precision or "fp32", options.their_precision or "fp32")] if asked else PAIRS
    rows = [
        {"size": list(size), "batch": batch, "precision": mine, "their_precision": other, "compiled": options.compile}
        for mine, other in pairs
    ]  # fmt: skip
    device = torch.device(options.device)
    for task, calls in calls_of(size, batch, pairs, options):
        timed = in_turns(calls, options.pairs, device)
        for row, (mine, other) in zip(rows, pairs, strict=True):
            row[task] = comparison(timed[side_name("ours", mine)], timed[side_name("torchvision", other)])
            target = TARGETS.get((task, min(size)), {}).get((mine, other)) if device.type == "cpu" else None
            if target:
                row[task] |= {"target": target, "met": row[task]["ratio"]["median"] <= target}
            print(*size, f"batch {batch}, ours {mine}, torchvision's {other}, {task}:", row[task]["ratio"], flush=True)
    return rows


def calls_of(
    size: tuple[int, int], batch: int, pairs: Sequence[tuple[str, str]], options: argparse.Namespace
) -> Iterator[tuple[str, Calls]]:
    """For each task, with the models in its mode, what is called: each side once in every precision of ``pairs``."""
    torch.manual_seed(0)
    torch.compiler.reset()
    device = torch.device(options.device)
    theirs, ours = make_twins(50, classes=90, size=min(size))
    theirs, ours = theirs.to(device), ours.to(device)
    if options.channels_last:
        theirs = theirs.to(memory_format=torch.channels_last)
    images, targets, listed = inputs_of(size, batch, device)
    our_losses, detect = Losses(ours), ours.detect
    if options.compile:
        ours.operators = COMPILED
        our_losses, targets = compile_losses(ours), targets.with_free_slots()
        detect = torch.compile(ours.detect, fullgraph=True, dynamic=False)
    padded = pad(images)
    our_optimizer, their_optimizer = optimizer_of(ours), optimizer_of(theirs)

    def our_step(precision: str) -> None:
        with autocast(device, precision):
            losses = our_losses(padded.contiguous(memory_format=torch.channels_last), targets)
        step(sum(losses.values()), our_optimizer)

    def their_step(precision: str) -> None:
        with autocast(device, precision):
            losses = theirs([image.float() / 255 for image in images], listed)
        step(sum(losses.values()), their_optimizer)

    def our_inference(precision: str) -> None:
        with torch.inference_mode(), autocast(device, precision):
            detect(padded.contiguous(memory_format=torch.channels_last), targets.sizes)

    def their_inference(precision: str) -> None:
        with torch.inference_mode(), autocast(device, precision):
            theirs([image.float() / 255 for image in images])

    sides = {"training step": (our_step, their_step), "inference": (our_inference, their_inference)}
    for task in options.task:
        ours.train(task == "training step")
        theirs.train(task == "training step")
        yield task, calls_in(pairs, *sides[task])


def inputs_of(
    size: tuple[int, int], batch: int, device: torch.device
) -> tuple[torch.Tensor, Targets, list[dict[str, torch.Tensor]]]:
    """Noise with some objects: pixels, our targets, and the same as torchvision takes them."""
    images = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, device=device)
    boxes = make_boxes(batch, *size).to(device)
    labels = torch.randint(0, 90, (batch, OBJECTS), device=device)
    targets = Targets(
        boxes, labels, torch.ones_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool),
        torch.tensor([size] * batch, device=device), torch.arange(batch, device=device),
    )  # fmt: skip
    return images, targets, [{"boxes": b, "labels": n + 1} for b, n in zip(boxes, labels, strict=True)]


def calls_in(
    pairs: Sequence[tuple[str, str]], ours: Callable[[str], None], theirs: Callable[[str], None]
) -> Calls:  # fmt: skip
    """Each side once in every precision that a pair has it in."""
    calls: Calls = {}
    for mine, other in pairs:
        calls[side_name("ours", mine)] = lambda precision=mine: ours(precision)
        calls[side_name("torchvision", other)] = lambda precision=other: theirs(precision)
    return calls


def side_name(whose: str, precision: str) -> str:
    return f"{whose} {precision}"


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


def compare(ours: Call, theirs: Call, pairs: int, device: torch.device) -> dict[str, Spread]:
    """Two calls that take turns: seconds of each, and our share of torchvision's turn by turn."""
    timed = in_turns({"ours": ours, "torchvision": theirs}, pairs, device)
    return comparison(timed["ours"], timed["torchvision"])


def in_turns(calls: Mapping[str, Call], rounds: int, device: torch.device) -> dict[str, Timed]:
    """Each call once a round, after two that do not count. On a GPU also the peaks of its memory, of all calls."""
    timed = {name: Timed() for name in calls}

    def waited_for(call: Call, peaks: list[float]) -> None:
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        peaks.append(torch.cuda.max_memory_allocated(device) / 2**30)

    def whole(name: str) -> Call:
        return lambda: waited_for(calls[name], timed[name].peaks)

    turns = take_turns({name: whole(name) for name in calls} if device.type == "cuda" else calls, rounds, 0.0)
    for name, measured in turns.items():
        timed[name].seconds = [seconds for turn in measured for seconds in turn]
    return timed


def comparison(ours: Timed, theirs: Timed) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    measured = {"ours": ours.seconds, "torchvision": theirs.seconds, "ratio": ratios}
    peaks = {"ours GiB": ours.peaks, "torchvision GiB": theirs.peaks}
    return {name: spread(values) for name, values in (measured | peaks).items() if values}


def spread(values: list[float]) -> Spread:
    middle = statistics.median(values)
    return {"min": round(min(values), 4), "median": round(middle, 4), "max": round(max(values), 4)}


if __name__ == "__main__":
    main()
