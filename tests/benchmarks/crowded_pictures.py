#!/usr/bin/env python
"""What one crowded picture costs its batch: time of assigning targets, and memory of a training step's forward pass.

Time: a batch of four at 480 x 480, one picture with 504 objects; ours against torchvision's, both stages (anchors
matched and drawn; proposals matched and drawn), interleaved. Memory: R50-FPN, batch 16 at 800 x 1344, with 8 and with
504 slots, in bf16 as on a GPU; its tensors have shapes and no values, so it runs anywhere.

    python tests/benchmarks/crowded_pictures.py --output results/crowded_pictures.json
"""

from __future__ import annotations

import argparse
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from backbones.freezing import freeze_stages
from backbones.running.measurement import write_measurement
from detection.building import build_detector
from detection.operators import COMPILED
from detection.proposals import Proposals
from detection.regions import sample_regions
from detection.settings import default_settings
from detection.targets import Targets
from tests.benchmarks.faster_rcnn_speed import compare
from tests.detection.torchvision_twin import make_twins

CROWD, SLOTS = 504, 8
TIME_TARGET, MEMORY_TARGET = 1.2, 11.0
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results: dict[str, Any] = {"assigning targets": assigning(options.pairs)}
    print(results, flush=True)
    results["forward memory, GiB"] = {f"{slots} slots": round(forward_memory(slots), 2) for slots in (SLOTS, CROWD)}
    print(results)
    if options.output:
        write_measurement(
            options.output,
            what="one crowded picture: seconds of assigning targets beside torchvision's, and a forward pass's memory",
            settings={"batch": [4, 16], "size": [[480, 480], [800, 1344]], "objects": CROWD},
            targets={"ratio": TIME_TARGET, "GiB": MEMORY_TARGET},
            results=results,
        )


@torch.no_grad()
def assigning(pairs: int) -> dict[str, dict[str, float]]:
    """Seconds of both stages' assignment, and the ratio pair by pair."""
    theirs, ours = make_twins(18, classes=20, size=480)
    batch, side = 4, 480
    targets = crowded_targets(batch, side, side, CROWD)
    features = [torch.zeros(batch, 256, -(-side // stride), -(-side // stride)) for stride in ours.head.strides]
    anchors = torch.cat(ours.rpn.anchors(features))
    boxes = torch.rand(batch, 2000, 4) * side / 2
    boxes[..., 2:] += boxes[..., :2]
    proposals = Proposals(boxes, torch.ones(batch, 2000, dtype=torch.bool), torch.ones(batch, dtype=torch.bool))
    listed = [{"boxes": own[there], "labels": labels[there] + 1} for own, labels, there in
              zip(targets.boxes, targets.labels, targets.present, strict=True)]  # fmt: skip

    def ours_does() -> None:
        ours.rpn.sample(features, targets)
        sample_regions(proposals, targets, ours.settings.roi_sampling)

    def theirs_does() -> None:
        labels, _ = theirs.rpn.assign_targets_to_anchors([anchors] * batch, listed)
        theirs.rpn.fg_bg_sampler(labels)
        theirs.roi_heads.select_training_samples(list(boxes), listed)

    return compare(ours_does, theirs_does, pairs, torch.device("cpu"))


def crowded_targets(batch: int, height: int, width: int, slots: int) -> Targets:
    """The first picture uses all slots, the others up to eight."""
    counts = torch.tensor([slots, *(min(slots, 1 + number % 8) for number in range(1, batch))])
    corner = torch.rand(batch, slots, 2) * torch.tensor([width, height]) * 0.9
    present = torch.arange(slots) < counts[:, None]
    boxes = torch.cat((corner, corner + torch.rand(batch, slots, 2) * 40 + 8), -1) * present[..., None]
    sizes = torch.tensor([[height, width]] * batch)
    labels = torch.randint(0, 20, (batch, slots))
    return Targets(boxes, labels, present, torch.zeros_like(present), sizes, torch.arange(batch))


class LiveMemory(TorchDispatchMode):
    """Bytes of all storages that are alive, and the most that were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function: Callable[..., Any], kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self._seen:
            return
        self._seen.add(place)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self.now -= size


def forward_memory(slots: int, batch: int = 16, height: int = 800, width: int = 1344) -> float:
    """GiB that the forward pass of a training step in bf16, from pretrained weights, adds to weights and images."""
    detector = build_detector(default_settings("resnet50_v15", tuple("abcdefghij"))).train()
    freeze_stages(detector.backbone, 2)
    detector.operators = COMPILED
    real = crowded_targets(batch, height, width, slots)
    with pretended_gpu():
        move_shapes(detector)
        images = torch.empty(batch, 3, height, width, dtype=torch.uint8, device="cuda")
        targets = real.each(shape_of)
        with LiveMemory() as memory, torch.autocast("cuda", torch.bfloat16):
            losses = detector.losses(images, targets)
    assert all(loss.requires_grad for loss in losses.values())
    return memory.most / GIB


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Tensors with shapes and no values, and autocast as on a GPU, where there is none."""
    with (
        patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        patch("torch.cuda.is_bf16_supported", return_value=True),
        FakeTensorMode(),
    ):
        yield


def shape_of(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


def move_shapes(model: torch.nn.Module) -> None:
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            module._parameters[name] = torch.nn.Parameter(shape_of(parameter), parameter.requires_grad)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = shape_of(buffer)


if __name__ == "__main__":
    begun = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begun:.0f} s")
