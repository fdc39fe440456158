"""The same numbers in another order: where other projects lay out a tensor differently. Pure functions of tensors."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from math import isqrt

import torch
from torch import Tensor

OUR_EPS = 1e-5
Renaming = Sequence[tuple[re.Pattern[str], str]]


def renamed(name: str, table: Renaming) -> str:
    """A name after the first row of the table that fits; unchanged where none does."""
    for pattern, replacement in table:
        changed, count = pattern.subn(replacement, name)
        if count:
            return changed
    return name


def bins_first(weight: Tensor, channels: int) -> Tensor:
    """fc6 that reads channels, rows, columns -> rows, columns, channels, as pooled regions lie here in memory."""
    bins = isqrt(weight.shape[1] // channels)
    moved: Tensor = weight.unflatten(1, (channels, bins, bins)).permute(0, 2, 3, 1).flatten(1)
    return moved


def ratios_outermost(rows: Tensor, sizes: int, ratios: int) -> Tensor:
    """Outputs for anchors ordered by size, then ratio -> by ratio, then size. [sizes * ratios * n, ...] -> the same."""
    moved: Tensor = rows.unflatten(0, (sizes, ratios, -1)).transpose(0, 1).flatten(0, 2)
    return moved


def chosen_rows(rows: Tensor, labels: Sequence[int], each: int = 1) -> Tensor:
    """Outputs of some classes only, ``each`` rows for one. [N * each, ...] -> [len(labels) * each, ...]."""
    chosen: Tensor = rows.unflatten(0, (-1, each))[torch.tensor(labels)].flatten(0, 1)
    return chosen


def with_our_eps(tensors: Mapping[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Batch normalization that adds ``eps`` to its variances -> the same function with what ours adds.

    The difference goes into the scale and not into the variance, which may be smaller than either, so nothing is lost
    to rounding. Where the variance is zero, and ``eps`` too, the scale stays as it is.
    """
    changed = dict(tensors)
    for name in tensors:
        if not name.endswith(".running_var"):
            continue
        scale = f"{name.removesuffix('running_var')}weight"
        variance = tensors[name].double()
        ratio = ((variance + OUR_EPS) / (variance + eps)).sqrt()
        corrected = tensors[scale].double() * torch.where(variance + eps > 0, ratio, 1.0)
        changed[scale] = corrected.to(tensors[scale].dtype)
    return changed


def count(names: Collection[str], pattern: str) -> int:
    """How many names fit a pattern."""
    return sum(re.fullmatch(pattern, name) is not None for name in names)
