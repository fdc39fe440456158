"""The CIFAR-10 networks of pytorch_resnet_cifar10 (``.th`` files).

Its option A puts half of the new zero channels before the old ones and half after, ours puts all after: the same
network but for the order of channels, so reading permutes them, stage by stage.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from backbones.convention import IMAGENET
from backbones.weights.file_content import FileContent
from backbones.weights.foreign_names import from_torchvision
from backbones.weights.formats.contract import BackboneWeights, Format
from backbones.weights.variant_names import name_of

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CONVENTION = replace(IMAGENET, size=(32, 32), resize=None)
"""ImageNet's mean and deviation, on pictures as they are."""
_BLOCK = re.compile(r"^conv([234])_x\.(\d+)\.(.+)$")


def _recognises(names: Collection[str]) -> bool:
    three_stages = "layer3.0.conv1.weight" in names and "layer4.0.conv1.weight" not in names
    return three_stages and {"conv1.weight", "linear.weight", "layer1.0.conv1.weight"} <= set(names)


def _convert(content: FileContent) -> BackboneWeights:
    named = {re.sub(r"^linear\.", "fc.", name): tensor for name, tensor in content.tensors.items()}
    tensors = _reordered(from_torchvision(named))
    classes = CLASSES if len(tensors["fc.weight"]) == len(CLASSES) else ()
    return BackboneWeights(tensors, CONVENTION, backbone=name_of(tensors, None), classes=classes)


def _reordered(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose channels stand in our order.

    Only what a block receives and gives is bound by shortcuts; the channels inside it may stay as they are.
    """
    orders = {1: list(range(len(tensors["stem.conv.weight"])))}
    for stage in (2, 3, 4):
        orders[stage] = channel_order(orders[stage - 1], len(tensors[f"conv{stage}_x.0.bn2.weight"]))
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := _BLOCK.match(name):
            stage, block, layer = int(match[1]), int(match[2]), match[3]
            if layer == "conv1.weight":
                tensor = tensor[:, orders[stage - 1 if block == 0 else stage]]
            elif layer == "conv2.weight" or (layer.startswith("bn2.") and tensor.dim() == 1):
                tensor = tensor[orders[stage]]
        elif name == "fc.weight":
            tensor = tensor[:, orders[4]]
        result[name] = tensor
    return result


def channel_order(before: list[int], channels: int) -> list[int]:
    """For each of our channels of a stage, the number of theirs.

    Args:
        before: the same of the preceding stage.
        channels: of this stage; those that are new surround the old ones on their side and follow them on ours.
    """
    first = (channels - len(before)) // 2
    carried = [first + channel for channel in before]
    return carried + [channel for channel in range(channels) if channel not in set(carried)]


CIFAR = Format("pytorch_resnet_cifar10's", _recognises, _convert)
