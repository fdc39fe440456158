"""Losses and gradients that are no numbers: noticed, kept out of the weights, and told with their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.errors import InputError
from backbones.running import distributed

_STEPS_ON_DEVICE = 20


class FiniteWatch:
    """Remembers the last steps until it has asked the device whether they were finite.

    Asking waits for the device, so on a GPU only every 20th step asks, and the optimizer leaves steps out that are not
    finite (``found_inf``) until then: the weights stay those before the first of them.

    Args:
        names: of the pictures.
        device: of the losses.
    """

    def __init__(self, names: NDArray[Any], device: torch.device) -> None:
        self.names = names
        self.every = _STEPS_ON_DEVICE if device.type == "cuda" else 1
        self._steps: list[tuple[int, dict[str, Tensor], Tensor, Sequence[int]]] = []

    def note(self, step: int, losses: dict[str, Tensor], norm: Tensor | None, numbers: Sequence[int]) -> Tensor:
        """Take a step in before the optimizer makes it.

        Args:
            step: iterations done before it.
            losses: scalars of this process.
            norm: of the gradient, the same on all processes; None where fp16 may overflow.
            numbers: the pictures of this process.

        Returns:
            1.0 if the step must be left out, else 0.0, on the device; the same on all processes.

        Raises:
            InputError: a step was not finite; with the losses and the pictures.
        """
        total = distributed.mean_over_processes(torch.stack([loss.detach() for loss in losses.values()]).sum())
        value = total if norm is None else total + norm
        self._steps.append((step, losses, value, numbers))
        if len(self._steps) >= self.every:
            self.ask()
        return (~value.isfinite()).float()

    def ask(self) -> None:
        """Look at the steps that were noted since the last time.

        Raises:
            InputError: one was not finite.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        finite = torch.stack([value for _, _, value, _ in steps]).isfinite().tolist()
        if all(finite):
            return
        step, losses, _, numbers = steps[finite.index(False)]
        mine = {name: loss.item() for name, loss in losses.items()}
        everywhere = distributed.gather_objects((mine, [str(self.names[number]) for number in numbers]))
        bad = [part for part in everywhere if not _finite(part[0])]
        what, told = ("a loss", bad) if bad else ("the gradient", everywhere)
        shown = "; ".join(", ".join(f"{name} {value:g}" for name, value in part[0].items()) for part in told)
        images = ", ".join(name for part in told for name in part[1])
        raise InputError(
            f"iteration {step + 1}: {what} is not finite ({shown}); images: {images}; the run folder's weights are "
            "from before it; lower --learning-rate, or look at these images"
        )


def _finite(losses: dict[str, float]) -> bool:
    return all(abs(value) < float("inf") for value in losses.values())
