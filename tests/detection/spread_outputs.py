"""Random output layers whose answers differ from place to place, as a trained detector's do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def spread_outputs(layers: Sequence[tuple[Any, float]], run: Callable[[], object]) -> list[float]:
    """Scale the weights of layers so that their outputs have a given deviation, and centre each output by its bias.

    Args:
        layers: (a linear layer or convolution, the deviation), in the order in which they depend on each other.
        run: a forward pass through all of them.

    Returns:
        The factor by which each layer's weights were multiplied.
    """
    factors = []
    for layer, wanted in layers:
        nn.init.zeros_(layer.bias)
        outputs: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, output, kept=outputs: kept.append(output))
        run()
        hook.remove()
        rows = torch.cat([output.transpose(0, 1).flatten(1) for output in outputs], 1)  # one for each output
        factor = wanted / float((rows - rows.mean(1, keepdim=True)).std())
        layer.weight.mul_(factor)
        layer.bias.copy_(-rows.mean(1) * factor)
        factors.append(factor)
    return factors
