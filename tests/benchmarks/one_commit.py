"""What ``two_commits.py`` times, as one commit's code does it: a process that makes a call whenever it is asked to.

It runs under the tree of either commit, so it uses only what both have.

    python one_commit.py inference 480 1 fp32
    python one_commit.py exported FILE.onnx openvino 8 128 128
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], object]
OBJECTS = 8
CROWD = 504


def main() -> None:
    item, *arguments = sys.argv[1:]
    call = ITEMS[item](*arguments)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed meanwhile is not an answer
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        call()
        print("done", file=answers, flush=True)


def inference(size: str, batch: str, precision: str) -> Call:
    """Images to detections, Faster R-CNN R50-FPN."""
    import torch

    detector = twin(50, int(size)).eval()
    images, targets = noise(int(size), int(batch)), objects(int(size), [OBJECTS] * int(batch))

    def call() -> None:
        with torch.inference_mode(), autocast(precision):
            detector.detect(images, targets.sizes)

    return call


def training_step(size: str, batch: str, precision: str) -> Call:
    """Forward, backward and update, Faster R-CNN R50-FPN."""
    import torch

    detector = twin(50, int(size)).train()
    images, targets = noise(int(size), int(batch)), objects(int(size), [OBJECTS] * int(batch))
    learned = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=1e-8, momentum=0.9, weight_decay=1e-4)

    def call() -> None:
        with autocast(precision):
            losses = detector.losses(images, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    return call


def crowded_targets(size: str, batch: str) -> Call:
    """Anchors and proposals matched and drawn, where one picture has 504 objects."""
    import torch

    from detection.proposals import Proposals
    from detection.regions import sample_regions

    side, count = int(size), int(batch)
    detector = twin(18, side)
    targets = objects(side, [CROWD] + [OBJECTS] * (count - 1))
    features = [torch.zeros(count, 256, -(-side // stride), -(-side // stride)) for stride in detector.head.strides]
    boxes = torch.rand(count, 2000, 4) * side / 2
    boxes[..., 2:] += boxes[..., :2]
    there = torch.ones(count, 2000, dtype=torch.bool)
    proposals = Proposals(boxes, there, torch.ones(count, dtype=torch.bool))

    @torch.no_grad()
    def call() -> None:
        detector.rpn.sample(features, targets)
        sample_regions(proposals, targets, detector.settings.roi_sampling)

    return call


def exported(file: str, engine: str, batch: str, height: str, width: str) -> Call:
    """One forward pass of an exported file."""
    from deploy.benchmarking.subjects import make_images, open_subject

    threads = os.cpu_count()
    kept: Any = open_subject(file, engine, threads)
    if engine == "openvino" and int(batch) > 1:
        with contextlib.suppress(TypeError):  # the older commit has one hint for all
            kept = open_subject(file, engine, threads, "throughput")
    return kept.call(make_images(int(batch), (int(height), int(width)), None))  # type: ignore[no-any-return]


def twin(depth: int, size: int) -> Any:
    import torch

    from tests.detection.torchvision_twin import make_twins

    torch.manual_seed(0)
    return make_twins(depth, classes=90, size=size)[1]


def noise(size: int, batch: int) -> Any:
    import torch

    pixels = np.random.default_rng(0).integers(0, 256, (batch, 3, size, size), np.uint8)
    return torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)


def objects(size: int, counts: list[int]) -> Any:
    """Targets of so many objects each."""
    import torch

    from detection.targets import Targets

    generator = torch.Generator().manual_seed(1)
    batch, slots = len(counts), max(counts)
    corner = torch.rand(batch, slots, 2, generator=generator) * size * 0.6
    extent = torch.rand(batch, slots, 2, generator=generator) * size * 0.3 + 8
    present = torch.arange(slots) < torch.tensor(counts)[:, None]
    return Targets(
        torch.cat((corner, corner + extent), -1) * present[..., None],
        torch.randint(0, 90, (batch, slots), generator=generator), present, torch.zeros_like(present),
        torch.tensor([[size, size]] * batch), torch.arange(batch),
    )  # fmt: skip


def autocast(precision: str) -> Any:
    import torch

    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


ITEMS: dict[str, Callable[..., Call]] = {
    "inference": inference, "training step": training_step, "crowded targets": crowded_targets, "exported": exported,
}  # fmt: skip

if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).resolve().parent))  # its neighbours are those of one commit only
    main()
