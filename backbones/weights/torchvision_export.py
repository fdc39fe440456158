"""A network to torchvision's names, for everyone who reads those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.resnet import CAFFE_POOL
from backbones.running.atomic_write import atomic_path
from backbones.variants import VGGVariant
from backbones.weights.foreign_names import resnet_name_in_torchvision, vgg_name_in_torchvision
from backbones.weights.published import TORCHVISION
from backbones.weights.variant_names import name_of_variant


def to_torchvision(network: Backbone) -> dict[str, Tensor]:
    """A state dict under torchvision's names, which ``torchvision.models`` loads strictly.

    Args:
        network: one that torchvision has too; its batch normalization may be frozen.

    Raises:
        InputError: torchvision has no such network; the message names those it has.
    """
    variant: Any = getattr(network, "variant", None)
    name = name_of_variant(variant)
    if name not in TORCHVISION:
        raise InputError(
            f"{name or type(network).__name__}: torchvision has no network with these layers; it has "
            f"{', '.join(TORCHVISION)}"
        )
    tensors: dict[str, Tensor] = network.state_dict()
    if CAFFE_POOL in tensors:
        raise InputError(f"{name}: pools on Caffe's grid after conv1, which torchvision's network does not")
    if isinstance(variant, VGGVariant):
        return {vgg_name_in_torchvision(name, variant): value for name, value in tensors.items()}
    return {resnet_name_in_torchvision(name): value for name, value in tensors.items()}


def save_torchvision(network: Backbone, path: str | Path) -> Path:
    """Write ``to_torchvision(network)`` as a torch file (``.pth``), under a temporary name and renamed.

    torchvision's file has no place for classes and input convention; ``save_weights`` keeps them.

    Raises:
        InputError: torchvision has no such network.
    """
    tensors = {name: value.detach().cpu().clone() for name, value in to_torchvision(network).items()}
    with atomic_path(Path(path)) as partial:
        torch.save(tensors, partial)
    return Path(path)
