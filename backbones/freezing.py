"""Stages that learn nothing."""

from __future__ import annotations

from torch import nn

from backbones.batch_norm import freeze_batch_norm
from backbones.contract import Backbone
from backbones.errors import InputError


def first_stages(network: Backbone, count: int) -> dict[str, nn.Module]:
    """The children of the network that make its first ``count`` maps: 1 is conv1, 2 also conv2_x, ...

    Raises:
        InputError: the network has fewer stages.
    """
    names = list(network.out_channels)
    if not 0 <= count <= len(names):
        raise InputError(f"cannot freeze {count} stages: the network has {len(names)} ({', '.join(names)})")
    if not count:
        return {}
    later = [network.stage(name) for name in names[count:]]
    last = None if later else network.stage(names[-1])
    found: dict[str, nn.Module] = {}
    for name, child in network.named_children():  # in calling order; behind the stages comes the classifier
        if any(child is stage for stage in later):
            break
        found[name] = child
        if child is last:
            break
    return found


def freeze_stages(network: Backbone, count: int) -> None:
    """Let the first ``count`` stages learn nothing, batch-norm statistics included; 0 changes nothing.

    Raises:
        InputError: the network has fewer stages.
    """
    for name, child in first_stages(network, count).items():
        setattr(network, name, freeze_batch_norm(child).requires_grad_(False))
