"""torchvision's parameter names and ours, both ways. timm's residual networks bear the same names."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import Tensor

from backbones.variants import VGGVariant

_WRAPPERS = ("module.", "_orig_mod.")
_RESNET = (
    (re.compile(r"^conv1\."), "stem.conv."),
    (re.compile(r"^bn1\."), "stem.bn."),
    (re.compile(r"\.downsample\.0\."), ".shortcut.conv."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.bn."),
)
_RESNET_BACK = (
    (re.compile(r"^stem\.conv\."), "conv1."),
    (re.compile(r"^stem\.bn\."), "bn1."),
    (re.compile(r"\.shortcut\.conv\."), ".downsample.0."),
    (re.compile(r"\.shortcut\.bn\."), ".downsample.1."),
)
_VGG_CLASSIFIER = {"0": "fc6", "3": "fc7", "6": "fc8"}
_VGG_CLASSIFIER_BACK = {name: index for index, name in _VGG_CLASSIFIER.items()}


def without_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes of DistributedDataParallel and torch.compile, in any nesting."""
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return without_wrappers({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors


def is_torchvision(names: Collection[str]) -> bool:
    """Whether the names are those of torchvision's ResNet or VGG."""
    return "layer1.0.conv1.weight" in names or "features.0.weight" in names


def from_torchvision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet and VGG names -> ours; half-precision tensors become fp32."""
    rename = _vgg_name if "features.0.weight" in tensors else _resnet_name
    positions = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("features.")})
    return {
        rename(name, positions): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def resnet_name_in_torchvision(name: str) -> str:
    """``conv3_x.0.shortcut.bn.bias`` -> ``layer2.0.downsample.1.bias``."""
    for pattern, replacement in _RESNET_BACK:
        name = pattern.sub(replacement, name)
    return re.sub(r"^conv(\d)_x\.", lambda match: f"layer{int(match[1]) - 1}.", name)


def vgg_name_in_torchvision(name: str, variant: VGGVariant) -> str:
    """``conv3_x.1.weight`` -> ``features.10.weight``: all groups one after another, each ending in its pooling."""
    part, module, kind = name.split(".")
    if part == "classifier":
        return f"classifier.{_VGG_CLASSIFIER_BACK[module]}.{kind}"
    group = int(part[len("conv") : -len("_x")])
    before = sum(2 * layers + 1 for layers in variant.depths[: group - 1])
    own_pooling = 0 if group == 1 else 1  # ours begins a group with the pooling of the one before
    return f"features.{before + int(module) - own_pooling}.{kind}"


def _resnet_name(name: str, positions: list[int]) -> str:
    for pattern, replacement in _RESNET:
        name = pattern.sub(replacement, name)
    return re.sub(r"^layer(\d)\.", lambda match: f"conv{int(match[1]) + 1}_x.", name)


def _vgg_name(name: str, positions: list[int]) -> str:
    """``features.10.weight`` -> ``conv3_x.1.weight``: a gap of three positions is a pooling, hence a new group."""
    part, index, kind = name.split(".")
    if part == "classifier":
        return f"classifier.{_VGG_CLASSIFIER[index]}.{kind}"
    group, within = 1, -2
    for previous, position in zip([positions[0] - 2, *positions], positions, strict=False):
        if position - previous == 3:
            group, within = group + 1, 1  # the group's pooling is its module 0
        else:
            within += 2
        if position == int(index):
            break
    return f"conv{group}_x.{within}.{kind}"
