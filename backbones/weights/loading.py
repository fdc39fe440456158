"""From a file, whoever wrote it, into a network: strictly, and with one line that says so."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.contract import Backbone
from backbones.convention import IMAGENET, InputConvention
from backbones.errors import InputError
from backbones.running.checkpoint import read_torch_file
from backbones.running.run_folder import WEIGHTS
from backbones.variants import VARIANTS, ResNetVariant
from backbones.weights.foreign_names import from_torchvision, is_torchvision, without_wrappers
from backbones.weights.model_file import read_model
from backbones.weights.published import fetch_published

logger = logging.getLogger("shortcut")
_COUNTER = "num_batches_tracked"
_CLASSIFIERS = ("fc.", "classifier.")


@dataclass(frozen=True)
class BackboneWeights:
    """A network's tensors under our names, and what is known of them.

    Attributes:
        tensors: by parameter name.
        origin: where they come from, for messages.
        convention: the input that they expect.
        classes: names in the order of the classifier; empty where the file does not say.
        backbone: the network's name where the file says it.
        stride_on: where bottlenecks carry their stride, if it is known.
        mean_image: a per-pixel mean [3, H, W] that goes before the network, or None.
    """

    tensors: dict[str, Tensor]
    origin: str
    convention: InputConvention
    classes: tuple[str, ...] = ()
    backbone: str | None = None
    stride_on: str | None = None
    mean_image: Tensor | None = None


def read_weights(source: str | Path) -> BackboneWeights:
    """Read a classification model from a run folder, a ``.safetensors`` of ours, or a torchvision state dict.

    A torch file may be compressed (``.pth.xz``). ``torchvision://NAME`` names published weights.

    Raises:
        InputError: the file cannot be read, or its parameter names are nobody's that we know.
    """
    text = str(source)
    if text.startswith("torchvision://"):
        return read_weights(fetch_published(text.removeprefix("torchvision://")))
    path = Path(source)
    if path.is_dir():
        path = path / WEIGHTS
    if path.suffix == ".safetensors":
        return _from_ours(path)
    tensors = {name: value for name, value in read_torch_file(path).items() if isinstance(value, Tensor)}
    tensors = without_wrappers(tensors)
    if not is_torchvision(tensors):
        raise InputError(
            f"{path}: the parameter names are not torchvision's; known are torchvision's and our own files"
        )
    stride = "3x3" if "layer1.0.conv3.weight" in tensors else None
    return BackboneWeights(from_torchvision(tensors), f"{path} (torchvision's)", IMAGENET, stride_on=stride)


def _from_ours(path: Path) -> BackboneWeights:
    tensors, metadata = read_model(path)
    if metadata["task"] != "classification":
        raise InputError(f"{path}: holds a model for {metadata['task']}, not a classification network")
    backbone = metadata["architecture"]["backbone"]
    variant = VARIANTS.get(backbone)
    mean = tensors.get("normalize.mean")
    return BackboneWeights(
        {name.removeprefix("network."): tensor for name, tensor in tensors.items() if name.startswith("network.")},
        str(path),
        InputConvention.from_dict(metadata["input"]),
        tuple(metadata["classes"]),
        backbone,
        variant.stride_on if isinstance(variant, ResNetVariant) and variant.block == "bottleneck" else None,
        mean if mean is not None and mean.shape[1:] != (1, 1) else None,
    )


def load_weights(network: Backbone, source: str | Path | BackboneWeights) -> BackboneWeights:
    """Load a file into a network, in place. Every tensor must find its place.

    A network without a classifier (``num_classes=0``) leaves the file's classifier unread.

    Args:
        network: from ``build_backbone``; its batch normalization may be frozen.
        source: what ``read_weights`` takes, or its result.

    Returns:
        What was read, with the input convention to use.

    Raises:
        InputError: tensors are missing, left over or of another shape, or the stride sits elsewhere.
    """
    weights = source if isinstance(source, BackboneWeights) else read_weights(source)
    _check_stride(network, weights)
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    given = {name: value for name, value in weights.tensors.items() if not name.endswith(_COUNTER)}
    if not any(name.startswith(_CLASSIFIERS) for name in wanted):
        given = {name: value for name, value in given.items() if not name.startswith(_CLASSIFIERS)}
    _check_names(wanted, given, weights.origin)
    network.load_state_dict(given, strict=False)
    logger.info("weights: %d of %d tensors from %s", len(given), len(wanted), weights.origin)
    return weights


def _check_stride(network: Backbone, weights: BackboneWeights) -> None:
    variant: Any = getattr(network, "variant", None)
    if weights.stride_on is None or not isinstance(variant, ResNetVariant) or variant.block != "bottleneck":
        return
    if variant.stride_on != weights.stride_on:
        wanted = next((name for name, row in VARIANTS.items() if row == _moved(variant, weights.stride_on)), "another")
        raise InputError(
            f"{weights.origin}: bottleneck stride in the {weights.stride_on}, this network has it in the "
            f"{variant.stride_on}: the shapes fit, the outputs would be wrong; use {wanted}"
        )


def _moved(variant: ResNetVariant, stride_on: Any) -> ResNetVariant:
    from dataclasses import replace

    return replace(variant, stride_on=stride_on)


def _check_names(wanted: dict[str, Tensor], given: dict[str, Tensor], origin: str) -> None:
    _refuse(origin, "missing", wanted.keys() - given.keys())
    _refuse(origin, "left over", given.keys() - wanted.keys())
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)} in the file, {list(wanted[name].shape)} in the network"
            raise InputError(f"{origin}: {name} has another shape: {shapes}")


def _refuse(origin: str, what: str, names: Iterable[str]) -> None:
    names = sorted(names)
    if names:
        listing = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(f"{origin}: does not fit this network, {len(names)} tensors are {what}: {listing}")
