"""Our networks inside other projects: one module for each host, and what these modules share.

A host's module is imported where that host is in use, and only there: importing it registers our networks in
hosts that keep a registry. This package itself imports no host, and no torch. Every module builds through
``build_backbone(name, num_classes=0)`` and reads nothing but the contract (``backbones.contract``), so networks
of other packages work in every host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.convention import IMAGENET, InputConvention
from backbones.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from backbones.contract import Backbone


def import_host(module: str, install: str) -> Any:
    """A module of the host.

    Args:
        module: its full name.
        install: the command that installs the host.

    Raises:
        InputError: it, or something that it needs, is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        host = module.partition(".")[0]
        raise InputError(f"{host} cannot be imported ({error}); install it with: {install}") from None


def build_trunk(
    name: str, weights: str | Path | None = None, last: str | None = None
) -> tuple[Backbone, InputConvention]:
    """A network without its classifier, and the input that it expects.

    Args:
        name: one of ``list_backbones()``.
        weights: what ``read_weights`` takes (a run folder, a file, ``torchvision://NAME``); None leaves the network
            freshly initialized, for input normalized as ``convention.IMAGENET``.
        last: the deepest map that is wanted; later stages are removed. None keeps all.

    Raises:
        InputError: nobody offers the network, it has no such map, or the weights do not fit.
    """
    from backbones.building import build_backbone
    from backbones.weights.loading import load_weights

    network = build_backbone(name, num_classes=0)
    convention = IMAGENET if weights is None else load_weights(network, weights).convention
    if last is not None:
        check_maps(name, [last], network.out_channels)
        network.truncate(last)
    return network, convention


def check_maps(name: str, wanted: Sequence[str], known: Iterable[str]) -> None:
    """Refuse an empty choice of feature maps, and names of maps that the network does not have.

    Args:
        name: the network's.
        wanted: the choice.
        known: the network's maps, under the same names (ours or the host's).

    Raises:
        InputError: naming those that it has.
    """
    unknown = [map_ for map_ in wanted if map_ not in known]
    if unknown or not wanted:
        problem = f"has no feature map {unknown[0]!r}" if unknown else "is to return no feature map"
        raise InputError(f"{name} {problem}; it has {', '.join(known)}")


def deepest_at_each_stride(network: Backbone) -> dict[int, str]:
    """The last map of each resolution, {4: "c2", 8: "c3", ...}: pyramids and decoders take one from each."""
    return {stride: name for name, stride in network.out_strides.items()}


def unit_statistics(convention: InputConvention) -> tuple[list[float], list[float]]:
    """Mean and standard deviation for hosts whose pixels are RGB in [0, 1]."""
    step = -1 if convention.channels == "BGR" else 1
    mean = [value / 255 for value in convention.mean[::step]]
    std = [value / 255 for value in convention.std[::step]]
    return mean, std


def from_rgb(images: Tensor, convention: InputConvention) -> Tensor:
    """Normalized RGB [B, 3, H, W] in the channel order of the network's weights."""
    return images.flip(1) if convention.channels == "BGR" else images
