"""A moving average of the weights, which often scores better than the weights that are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class WeightAverage:
    """An exponential moving average of what a model learns: its parameters, and the statistics of batch normalization.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.

    Args:
        model: on its device; what learns nothing is left out.
        decay: below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = _changing(model)
        self._means = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights in, once after each step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self._means.values()), list(self._live.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        trained = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self._write(self._means)
        try:
            yield
        finally:
            self._write(trained)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"updates": self.updates, "means": self._means}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.updates = state["updates"]
        for name, mean in self._means.items():
            mean.copy_(state["means"][name])

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._live.items():
            tensor.copy_(values[name])


def _changing(model: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {name: value for name, value in model.named_parameters() if value.requires_grad}
    for prefix, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            found |= {f"{prefix}.{n}": b for n, b in module.named_buffers() if b.is_floating_point()}
    return found
