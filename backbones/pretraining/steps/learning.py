"""What every training step of a classifier ends with: forward, backward, one step of SGD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.pretraining.recipes import Recipe
from backbones.running.precision import autocast

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
