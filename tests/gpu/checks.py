"""What must hold on any device: the same functions are tests on the CPU, tests on a GPU, and the start of a tour.

Each takes a device and raises ``AssertionError``. None needs pytest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close
from torchvision.ops import roi_align

from backbones.building import build_backbone
from backbones.convention import IMAGENET
from backbones.data.arrays import LabelledImages
from backbones.data.datasets import read_classification
from backbones.data.order import EndlessOrder
from backbones.normalization import Normalize
from backbones.pretraining.graph_steps import EAGER_STEPS, GraphSteps, ImagePool
from backbones.pretraining.recipes import CIFAR
from backbones.pretraining.steps import BatchPlan, DeviceData, EagerSteps, Learner, StreamedSteps, make_optimizer
from backbones.pretraining.streams import TrainingStream
from backbones.running.keyed_random import generator
from backbones.running.precision import autocast, gradient_scaler
from backbones.running.run_folder import RunFolder
from backbones.running.training_state import TrainingState
from detection.data.batches import Batch
from detection.nms import nms_by_fixed_point, nms_by_kernel
from detection.operators import COMPILED, EAGER
from detection.roi_align import roi_align_by_grid, roi_align_by_sum
from detection.settings import PoolSettings
from detection.training.job import TrainingJob, make_sgd
from detection.training.options import TrainingOptions, resolve
from tests.detection.builders import SIZE, data_of, random_targets, small_detector

Check = Callable[[torch.device], None]
STRIDES = (4, 8, 16, 32)
_BEST = 20  # detections of each picture that are compared; the forms may leave different room for further ones
_CYCLES = 1_000_000_000
"""Of a GPU's clock: more than half a second."""


def suppression_forms_agree(device: torch.device) -> None:
    """torchvision's kernel and the fixed point keep the same of 40 groups of boxes, with labels and without."""
    draws = torch.Generator().manual_seed(0)
    corner = torch.rand(40, 300, 2, generator=draws) * 200
    boxes = torch.cat((corner, corner + 10 + torch.rand(40, 300, 2, generator=draws) * 60), -1).to(device)
    valid = (torch.rand(40, 300, generator=draws) < 0.9).to(device)
    labels = torch.randint(0, 3, (40, 300), generator=draws).to(device)
    for given in (None, labels):
        kept, _ = nms_by_kernel(boxes, valid, 0.5, given)
        fixed, exact = nms_by_fixed_point(boxes, valid, 0.5, given, iterations=32)
        assert bool(exact.all())
        assert torch.equal(kept, fixed)
        assert 0 < int(kept.sum()) < int(valid.sum())


def pooling_forms_agree(device: torch.device) -> None:
    """Weighted sums, grid sampling and torchvision's kernel: the same regions, and the same gradients."""
    draws = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, 40, 2, generator=draws) * torch.tensor([128.0, 96.0]) for _ in range(2))
    boxes = torch.cat((torch.minimum(a, b), torch.maximum(a, b)), -1).to(device)
    levels = torch.randint(0, 4, (2, 40), generator=draws).to(device)
    maps = [torch.randn(2, 8, 96 // s, 128 // s, generator=draws) for s in STRIDES]
    settings, found = PoolSettings(), []
    for pool in (roi_align_by_sum, roi_align_by_grid, _torchvisions_regions):
        features = [level.to(device).requires_grad_() for level in maps]
        pooled = pool(features, STRIDES, boxes, levels, settings)
        (pooled * torch.linspace(-1, 1, pooled.numel(), device=device).reshape(pooled.shape)).sum().backward()
        found.append([pooled, *(level.grad for level in features)])
    for ours in found[:2]:
        for one, other in zip(ours, found[2], strict=True):
            assert_close(one, other, rtol=0, atol=1e-3)


def _torchvisions_regions(
    features: list[Tensor], strides: tuple[int, ...], boxes: Tensor, levels: Tensor, settings: PoolSettings
) -> Tensor:
    image = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
    rows = torch.cat((image[:, None].to(boxes.dtype), boxes.reshape(-1, 4)), 1)
    every = [
        roi_align(level, rows, settings.size, 1 / stride, settings.sampling_ratio, settings.aligned)
        for level, stride in zip(features, strides, strict=True)
    ]
    return torch.stack(every)[levels.reshape(-1), torch.arange(len(rows), device=boxes.device)]


def graph_steps_equal_eager_steps(device: torch.device) -> None:
    """Steps before a graph is recorded and replayed ones follow the plain way."""
    count = EAGER_STEPS + 7
    eager, fast = (_losses_of(make(device), count) for make in (_eager_steps, _graph_steps))
    assert_close(fast, eager, rtol=3e-2, atol=3e-2)
    assert eager[-1] != eager[0]


def a_pool_filled_late_is_waited_for(device: torch.device) -> None:
    """The run's own stream waits for the pictures, which the current stream has yet to write."""
    eager = _losses_of(_eager_steps(device), 3)
    assert_close(_losses_of(_graph_steps(device, late=True), 3), eager, rtol=3e-2, atol=3e-2)


def _parts(device: torch.device) -> tuple[Learner, Normalize, DeviceData, BatchPlan]:
    rng = generator(0)
    pixels = rng.integers(0, 256, (64, 32, 32, 3)).astype(np.uint8)
    data = LabelledImages(pixels, rng.integers(0, 10, 64), tuple("0123456789"))
    torch.manual_seed(0)
    network = build_backbone("resnet20", 10).to(device, memory_format=torch.channels_last).train()
    learner = Learner(network, make_optimizer(network, CIFAR), gradient_scaler(device, "fp32"))
    return learner, Normalize(IMAGENET).to(device), DeviceData.of(data, device), BatchPlan(EndlessOrder(64, 3), 8, 3)


def _eager_steps(device: torch.device) -> EagerSteps:
    return EagerSteps(*_parts(device))


def _graph_steps(device: torch.device, late: bool = False) -> GraphSteps:
    learner, normalize, data, plan = _parts(device)
    if late and device.type == "cuda":  # behind the last copy from the host, which would wait for it
        torch.cuda.synchronize()
        torch.cuda._sleep(_CYCLES)
    return GraphSteps(
        learner, ImagePool(data, normalize), plan, torch.cuda.Stream(device) if device.type == "cuda" else None
    )


def _losses_of(steps: EagerSteps | GraphSteps, count: int) -> list[float]:
    losses = []
    for step in steps.batches(0, count):
        if isinstance(steps, GraphSteps):
            with steps.on_device():
                losses.append(float(steps(step, 0.01)[0]["cross_entropy"]))
        else:
            losses.append(float(steps(step, 0.01)[0]["cross_entropy"]))
    return losses


def streamed_batches_arrive_whole(device: torch.device) -> None:
    """Batches from worker processes, through page-locked memory, train as those that are read at once."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(12):
            place = Path(folder) / f"class{number % 2}"
            place.mkdir(exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (72, 80, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
        data: Any = read_classification(f"folder:{folder}", "all")
        stream = TrainingStream(data, EndlessOrder(12, 0), 4, 0, side=64)
        losses = []
        for workers in (2, 0):
            torch.manual_seed(0)
            network = build_backbone("resnet20", 2).to(device).train()
            learner = Learner(network, make_optimizer(network, CIFAR), gradient_scaler(device, "fp32"))
            steps = StreamedSteps(
                learner, Normalize(IMAGENET).to(device), stream, lighting=True, workers=workers, device=device
            )
            batches = steps.batches(0, 3) if workers else (stream[step] for step in range(3))
            losses.append([float(steps(batch, 0.01)[0]["cross_entropy"]) for batch in batches])
    assert_close(losses[0], losses[1], rtol=1e-2, atol=1e-2)


def detector_learns_as_on_the_cpu(device: torch.device, precision: str) -> None:
    """The first step's losses are those of fp32 on the CPU."""
    reference = small_job(torch.device("cpu"), "fp32").train_step(small_batch())[0]
    losses = small_job(device, precision).train_step(small_batch())[0]
    _assert_near(losses, reference, 0.02 if precision == "fp32" else 0.15)


def compiled_detector_learns_as_eager(device: torch.device, precision: str) -> None:
    """Two steps of each through the job that trains detectors: losses, and the second step's gradients."""
    eager, fast = (small_job(device, precision, compiled=compiled) for compiled in (False, True))
    for _ in range(2):
        losses, reference = fast.train_step(small_batch())[0], eager.train_step(small_batch())[0]
        _assert_near(losses, reference, 0.02 if precision == "fp32" else 0.1)
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in job.model.parameters() if p.grad is not None]) for job in (fast, eager)
    )
    assert float((ours - theirs).norm() / theirs.norm()) < (0.05 if precision == "fp32" else 0.3)


def _assert_near(losses: dict[str, Tensor], reference: dict[str, Tensor], share: float) -> None:
    assert losses.keys() == reference.keys()
    for name, value in reference.items():
        found, wanted = float(losses[name]), float(value)
        assert abs(found - wanted) <= share * (abs(wanted) + 0.1), f"{name}: {found} against {wanted}"


def operators_detect_alike(device: torch.device) -> None:
    """The eager forms of suppression and pooling, and those that compile, find the same."""
    detector, batch = small_detector().to(device).eval(), small_batch()
    _assert_same_scores(detector, detector.detect, detector.detect, batch, device, "fp32")


def compiled_detector_finds_as_eager(device: torch.device, precision: str) -> None:
    """The compiled form of ``detect``, with CUDA graphs, twice."""
    detector, batch = small_detector().to(device).eval(), small_batch()
    fast = torch.compile(detector.detect, fullgraph=True, mode="reduce-overhead")
    for _ in range(2):
        _assert_same_scores(detector, detector.detect, fast, batch, device, precision)


def _assert_same_scores(
    detector: Any, plain: Any, fast: Any, batch: Batch, device: torch.device, precision: str
) -> None:
    images, sizes = batch.images.to(device), batch.targets.sizes.to(device)
    scores = []
    for operators, detect in ((EAGER, plain), (COMPILED, fast)):
        detector.operators = operators
        with torch.inference_mode(), autocast(device, precision):
            scores.append(detect(images, sizes).scores.float().topk(_BEST, 1).values.cpu())
    assert bool((scores[0] > 0.05).any())
    share = 1e-3 if precision == "fp32" else 5e-2
    assert_close(scores[1], scores[0], rtol=share, atol=share)


def small_job(device: torch.device, precision: str, compiled: bool = False) -> TrainingJob:
    """A training run of a small detector, before its first step; nothing is written."""
    options = resolve(TrainingOptions(
        dataset="digits", recipe="digits", backbone="resnet20", head="fpn", weights="none", batch_size=4,
        iterations=100, device=device.type, precision=precision, compile=compiled, val_split="none",
    ))  # fmt: skip
    detector = small_detector().to(device).train()
    detector.precision = precision
    state = TrainingState(detector, make_sgd(detector, 1e-4), gradient_scaler(device, precision))
    pictures = [np.zeros((SIZE, SIZE, 3), np.uint8)] * 4
    return TrainingJob(options, state, data_of(pictures, [[]] * 4), None, RunFolder(Path("unused")), device)


def small_batch() -> Batch:
    """Four pictures of noise, on the CPU."""
    draws = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8, generator=draws)
    return Batch(images.contiguous(memory_format=torch.channels_last), random_targets(4, 8, seed=3), (0, 1, 2, 3))


QUICK: dict[str, Check] = {
    "suppression": suppression_forms_agree,
    "pooling": pooling_forms_agree,
    "graph steps": graph_steps_equal_eager_steps,
    "late pool": a_pool_filled_late_is_waited_for,
    "streamed batches": streamed_batches_arrive_whole,
    "eager step, fp32": partial(detector_learns_as_on_the_cpu, precision="fp32"),
    "eager step, bf16": partial(detector_learns_as_on_the_cpu, precision="bf16"),
    "operators": operators_detect_alike,
}
"""Seconds each."""

COMPILING: dict[str, Check] = {
    "compiled step, fp32": partial(compiled_detector_learns_as_eager, precision="fp32"),
    "compiled step, bf16": partial(compiled_detector_learns_as_eager, precision="bf16"),
    "compiled detection, fp32": partial(compiled_detector_finds_as_eager, precision="fp32"),
    "compiled detection, bf16": partial(compiled_detector_finds_as_eager, precision="bf16"),
}
"""Up to a minute each, on a GPU."""
