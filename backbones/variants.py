"""The table of networks: one row for each variant of the paper, and nothing that needs torch.

Rows follow Table 1 (ImageNet), section 4.2 (CIFAR-10) and the VGG paper. ``register_backbone`` and the
entry-point group ``backbones`` add networks of other packages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from backbones.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from backbones.contract import Backbone

BlockKind = Literal["basic", "bottleneck", "plain"]
ShortcutOption = Literal["A", "B", "C"]
StridePlacement = Literal["1x1", "3x3"]


@dataclass(frozen=True)
class ResNetVariant:
    """One residual or plain network.

    Attributes:
        block: ``basic`` (two 3x3), ``bottleneck`` (1x1, 3x3, 1x1) or ``plain`` (two 3x3, no shortcut).
        depths: blocks in conv2_x, conv3_x, ... (Table 1).
        shortcut: option A, B or C of section 3.3; irrelevant to plain networks.
        stride_on: where a bottleneck halves the resolution: the first 1x1 (the paper) or the 3x3 (torchvision).
        widths: channels inside the blocks of each stage.
        small_input: the CIFAR stem (one 3x3) in place of 7x7/2 and max pooling.
    """

    block: BlockKind
    depths: tuple[int, ...]
    shortcut: ShortcutOption = "B"
    stride_on: StridePlacement = "1x1"
    widths: tuple[int, ...] = (64, 128, 256, 512)
    small_input: bool = False


@dataclass(frozen=True)
class VGGVariant:
    """One VGG network: the number of 3x3 convolutions in each of its five groups."""

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)


Variant = ResNetVariant | VGGVariant


def _cifar(block: BlockKind, layers: int) -> ResNetVariant:
    """6n+2 layers in three stages of 2n (section 4.2)."""
    n = (layers - 2) // 6
    return ResNetVariant(block, (n, n, n), shortcut="A", widths=(16, 32, 64), small_input=True)


VARIANTS: dict[str, Variant] = {
    "resnet18": ResNetVariant("basic", (2, 2, 2, 2)),
    "resnet34": ResNetVariant("basic", (3, 4, 6, 3)),
    "resnet50": ResNetVariant("bottleneck", (3, 4, 6, 3)),
    "resnet101": ResNetVariant("bottleneck", (3, 4, 23, 3)),
    "resnet152": ResNetVariant("bottleneck", (3, 8, 36, 3)),
    "resnet18_a": ResNetVariant("basic", (2, 2, 2, 2), shortcut="A"),
    "resnet34_a": ResNetVariant("basic", (3, 4, 6, 3), shortcut="A"),
    "resnet34_c": ResNetVariant("basic", (3, 4, 6, 3), shortcut="C"),
    "plain18": ResNetVariant("plain", (2, 2, 2, 2)),
    "plain34": ResNetVariant("plain", (3, 4, 6, 3)),
    "resnet50_v15": ResNetVariant("bottleneck", (3, 4, 6, 3), stride_on="3x3"),
    "resnet101_v15": ResNetVariant("bottleneck", (3, 4, 23, 3), stride_on="3x3"),
    "resnet152_v15": ResNetVariant("bottleneck", (3, 8, 36, 3), stride_on="3x3"),
    "vgg16": VGGVariant((2, 2, 3, 3, 3)),
    "vgg19": VGGVariant((2, 2, 4, 4, 4)),
    **{f"resnet{layers}": _cifar("basic", layers) for layers in (20, 32, 44, 56, 110, 1202)},
    **{f"plain{layers}": _cifar("plain", layers) for layers in (20, 32, 44, 56, 110)},
}

_registered: dict[str, Callable[..., Backbone]] = {}


def list_backbones() -> list[str]:
    """Every name that ``build_backbone`` takes, built in, registered or installed by another package."""
    return [*VARIANTS, *sorted({*_registered, *_installed()} - VARIANTS.keys())]


def register_backbone(name: str, builder: Callable[..., Backbone]) -> None:
    """Make ``build_backbone(name, num_classes=...)`` call ``builder(num_classes=...)``.

    Raises:
        InputError: the name is taken.
    """
    if name in VARIANTS or name in _registered:
        raise InputError(f"a backbone named {name!r} exists; choose another name")
    _registered[name] = builder


def find_variant(name: str) -> Variant | Callable[..., Backbone]:
    """The row of the table, or the builder that another package offers under this name.

    Raises:
        InputError: nobody offers the name; the message suggests the nearest one.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    if name in _registered:
        return _registered[name]
    installed = _installed()
    if name in installed:
        builder: Callable[..., Backbone] = installed[name].load()
        return builder
    raise InputError(f"no backbone is named {name!r}{did_you_mean(name, list_backbones())}; see list_backbones()")


def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="backbones")}
