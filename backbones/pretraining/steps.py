"""One step of pretraining: eagerly on pictures in memory (section 4.2), and on pictures that stream (section 3.4).

``graph_steps`` makes the eager ones without the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from backbones.batch_norm import statistics_kept
from backbones.blocks import BasicBlock, Bottleneck
from backbones.data.arrays import LabelledImages
from backbones.data.order import EndlessOrder
from backbones.normalization import Normalize
from backbones.pretraining.augmentation import crop_and_mirror, lighting_shift, standard_normal
from backbones.pretraining.recipes import Recipe
from backbones.pretraining.streams import StreamBatch, TrainingStream
from backbones.running import distributed
from backbones.running.keyed_random import fold, uniform
from backbones.running.precision import autocast

DRAWS = 3
"""Of each picture: row, column, mirroring."""
Means = dict[str, Tensor]
"""Scalars by name, on their device."""


@dataclass(frozen=True)
class Learner:
    """A network and what changes it.

    Attributes:
        network: [B, 3, H, W] normalized -> logits [B, K]; perhaps wrapped for several processes, or compiled.
        optimizer, scaler: of its parameters, and of the loss in fp16.
        precision: of convolutions and matrix products.
        label_smoothing: of the cross entropy.
    """

    network: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    precision: str = "fp32"
    label_smoothing: float = 0.0

    def learn(self, images: Tensor, labels: Tensor) -> tuple[Means, Means]:
        """One step on a batch, without waiting for the device.

        Args:
            images: [B, 3, H, W] normalized.
            labels: [B].

        Returns:
            the cross entropy, and the error in per cent.
        """
        with autocast(images.device, self.precision):
            logits = self.network(images)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        error = 100 * (logits.detach().argmax(1) != labels).float().mean()
        return {"cross_entropy": loss.detach()}, {"train_error": error}

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with plain momentum (section 3.4), in one kernel for all parameters where the device has one."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if recipe.decay == "all":
        groups = [{"params": parameters, "weight_decay": recipe.weight_decay}]
    else:
        weights = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, fused=True)


@torch.inference_mode()
def logits_of(model: nn.Module, batches: Iterable[Tensor], device: torch.device, precision: str) -> Tensor:
    """Score pictures in evaluation mode.

    Args:
        model: [B, 3, H, W] uint8 -> logits [B, K].
        batches: [B, 3, H, W] uint8 each.
        device: of the model.
        precision: of convolutions and matrix products.

    Returns:
        [N, K] float32 on the CPU; of no pictures [0].
    """
    training = model.training
    model.eval()
    with autocast(device, precision):
        logits = [model(batch.to(device)).float().cpu() for batch in batches]
    model.train(training)
    return torch.cat(logits) if logits else torch.zeros(0)


@dataclass(frozen=True)
class DeviceData:
    """Labelled images on the device: pixels [N, 3, H, W] uint8, labels [N]."""

    pixels: Tensor
    labels: Tensor
    mirrored: bool

    @classmethod
    def of(cls, data: LabelledImages, device: torch.device) -> DeviceData:
        pixels = torch.from_numpy(data.images).permute(0, 3, 1, 2).contiguous()
        return cls(pixels.to(device), torch.from_numpy(data.labels).to(device), data.mirrored)


@dataclass(frozen=True)
class BatchPlan:
    """Which images each step takes and what it draws for them: functions of the seed and the step.

    Attributes:
        order: of the images.
        batch_size: over all processes.
        seed: of the draws.
    """

    order: EndlessOrder
    batch_size: int
    seed: int

    def images(self, step: int) -> Tensor:
        """[B / processes] the images of this process."""
        share = self.batch_size // distributed.world_size()
        return torch.from_numpy(self.order.at(step * self.batch_size + distributed.rank() * share, share))

    def key(self, step: int) -> int:
        """Of the draws of a step."""
        return fold(self.seed, step)

    def draws(self, key: Tensor) -> Tensor:
        """[1] int64 key -> [B / processes, 3] in [0, 1)."""
        share = self.batch_size // distributed.world_size()
        first = distributed.rank() * share * DRAWS
        positions = torch.arange(first, first + share * DRAWS, device=key.device)
        return uniform(key, positions).reshape(-1, DRAWS)


class EagerSteps:
    """Normalize, augment, learn: operation by operation, the reference for the fast way.

    Args:
        learner: the network and its optimizer.
        normalize: pixels to its input.
        data: on the device.
        plan: of the batches.
    """

    def __init__(self, learner: Learner, normalize: Normalize, data: DeviceData, plan: BatchPlan) -> None:
        self.learner, self.normalize, self.data, self.plan = learner, normalize, data, plan

    def batches(self, step: int, end: int) -> Iterable[int]:
        """A batch is its number."""
        return range(step, end)

    def __call__(self, step: int, rate: float) -> tuple[Means, Means]:
        device = self.data.labels.device
        index = self.plan.images(step).to(device, non_blocking=True)
        draws = self.plan.draws(torch.tensor([self.plan.key(step)], device=device))
        images = crop_and_mirror(self.normalize(self.data.pixels[index]), draws, self.data.mirrored)
        self.learner.set_rate(rate)
        return self.learner.learn(images.contiguous(memory_format=torch.channels_last), self.data.labels[index])


class StreamedSteps:
    """Colour, normalization and learning on the device; decoding and cropping in worker processes.

    Args:
        learner: the network and its optimizer.
        normalize: pixels to its input.
        stream: of batches.
        lighting: whether to shift colours.
        workers: processes.
        device: of the network.
    """

    def __init__(
        self,
        learner: Learner,
        normalize: Normalize,
        stream: TrainingStream,
        *,
        lighting: bool,
        workers: int,
        device: torch.device,
    ) -> None:
        self.learner, self.normalize, self.stream = learner, normalize, stream
        self.lighting, self.workers, self.device = lighting, workers, device

    def batches(self, step: int, end: int) -> Iterable[StreamBatch]:
        """The batches of steps ``step`` to ``end``."""
        loader: DataLoader[StreamBatch] = DataLoader(
            self.stream, batch_size=None, sampler=range(step, end), num_workers=self.workers,
            pin_memory=self.device.type == "cuda", prefetch_factor=4 if self.workers else None,
        )  # fmt: skip
        return loader

    def __call__(self, batch: StreamBatch, rate: float) -> tuple[Means, Means]:
        pixels = batch.images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        if self.lighting:
            draws = batch.lighting.to(self.device, non_blocking=True)
            pixels = pixels + lighting_shift(standard_normal(draws))
        self.learner.set_rate(rate)
        labels = batch.labels.to(self.device, non_blocking=True)
        return self.learner.learn(self.normalize(pixels).contiguous(memory_format=torch.channels_last), labels)


class SyntheticSteps:
    """One batch of noise on the device, again and again: the step alone, without data.

    Args:
        learner: the network and its optimizer.
        shape: [B, 3, H, W] of this process.
        classes: how many.
        device: of the network.
    """

    def __init__(self, learner: Learner, shape: tuple[int, ...], classes: int, device: torch.device) -> None:
        self.learner = learner
        self.images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(classes, (shape[0],), device=device)

    def batches(self, step: int, end: int) -> Iterable[int]:
        """A batch is its number."""
        return range(step, end)

    def __call__(self, step: int, rate: float) -> tuple[Means, Means]:
        self.learner.set_rate(rate)
        return self.learner.learn(self.images, self.labels)


def checkpoint_blocks(network: nn.Module) -> nn.Module:
    """Keep only the inputs of blocks in the forward pass, in place: a deep network in little memory.

    The activations inside a block are computed again on the way back. Names and outputs stay as they are; batch
    normalization updates its running statistics in the first pass only. Returns the network.
    """
    for block in network.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            block.forward = partial(_checkpointed, block, block.forward)  # type: ignore[method-assign]
    return network


def _checkpointed(block: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_kept(block)

    out: Tensor = checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return out
