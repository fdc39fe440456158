"""Over how many candidates the losses are means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from backbones.running.distributed import mean_over_processes


@dataclass(frozen=True)
class LossCounts:
    """Candidates that were drawn, as float scalars: what the sums of the losses are divided by.

    Attributes:
        anchors: by the region proposal network.
        regions: by the second stage.
        masks: positive regions, which learn masks.
    """

    anchors: Tensor
    regions: Tensor
    masks: Tensor


def count_of(drawn: Tensor, known: Tensor | None) -> Tensor:
    """The number that a process divides its sum by: the mean over processes, since these average their gradients.

    Args:
        drawn: bool, the candidates of this process.
        known: the number, where the batch goes on in other parts.
    """
    return mean_over_processes(drawn.sum().float()).clamp(min=1) if known is None else known


def counts_of_parts(parts: Sequence[LossCounts]) -> LossCounts:
    """The counts with which the mean of the parts' losses is the loss of the whole batch.

    Args:
        parts: what each part of this process's batch draws.
    """
    totals = [torch.stack([getattr(part, item.name) for part in parts]).sum() for item in fields(LossCounts)]
    return LossCounts(*(mean_over_processes(total).clamp(min=1) / len(parts) for total in totals))
