"""Steps on pictures that lie on the device, the plain way: the reference for the fast one (section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones.data.arrays import LabelledImages
from backbones.data.order import EndlessOrder
from backbones.normalization import Normalize
from backbones.pretraining.augmentation.crop_and_mirror import crop_and_mirror
from backbones.pretraining.steps.learning import Learner, Means
from backbones.running import distributed
from backbones.running.keyed_random import fold, uniform
from backbones.running.precision import autocast

DRAWS = 3
"""Of each picture: row, column, mirroring."""


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


@torch.inference_mode()
def logits_of(model: nn.Module, pixels: Tensor, precision: str, batch_size: int = 2000) -> Tensor:
    """Score pictures that lie on the model's device, in evaluation mode.

    Args:
        model: [B, 3, H, W] uint8 -> logits [B, K].
        pixels: [N, 3, H, W] uint8.
        precision: of convolutions and matrix products.
        batch_size: pictures at once.

    Returns:
        [N, K] float32 on the CPU.
    """
    training = model.training
    model.eval()
    with autocast(pixels.device, precision):
        logits = torch.cat([model(batch).float() for batch in pixels.split(batch_size)])
    model.train(training)
    return logits.cpu()


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
    """Normalize, augment, learn: operation by operation.

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
