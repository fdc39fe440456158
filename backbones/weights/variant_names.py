"""From tensors to the name of the residual network that they are."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from backbones.variants import VARIANTS, ResNetVariant

_BLOCK = re.compile(r"^conv(\d)_x\.(\d+)\.")


def name_of(tensors: Mapping[str, Tensor], stride_on: str | None) -> str | None:
    """The network with these tensors (under our names); None where no row of the table fits.

    Networks with option A and plain ones have the same tensors; the residual one is meant.
    """
    blocks = {match.groups() for name in tensors if (match := _BLOCK.match(name))}
    stages = sorted({stage for stage, _ in blocks})
    depths = tuple(sum(stage == other for other, _ in blocks) for stage in stages)
    bottleneck = "conv2_x.0.conv3.weight" in tensors
    projects = {stage for stage in stages if f"conv{stage}_x.0.shortcut.conv.weight" in tensors}
    for name, row in VARIANTS.items():
        if not isinstance(row, ResNetVariant) or row.block == "plain" or row.depths != depths:
            continue
        if bottleneck:
            fits = row.block == "bottleneck" and row.stride_on == stride_on
        else:
            option = "A" if not projects else "C" if "2" in projects else "B"
            fits = row.block == "basic" and row.shortcut == option
        if fits:
            return name
    return None


def name_of_variant(variant: object) -> str | None:
    """The name of a row of the table."""
    return next((name for name, row in VARIANTS.items() if row == variant), None)
