"""A classification network from a file, whoever wrote it, under our names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from backbones.variants import VARIANTS, ResNetVariant
from backbones.weights.file_content import FileContent, read_content
from backbones.weights.formats import FORMATS, find_format
from backbones.weights.formats.contract import BackboneWeights as BackboneWeights
from backbones.weights.published import fetch_published, is_published_name


def read_weights(source: str | Path | FileContent) -> BackboneWeights:
    """Read a classification model from a run folder, a ``.safetensors`` of ours, or another project's file.

    Other projects are told by the names of their tensors: torchvision, timm, detectron2 and MSRA (``R-50.pkl``),
    pytorch_resnet_cifar10 (``.th``). ``.pth``, ``.th`` and ``.pkl`` may be compressed (``.xz``). ``torchvision://NAME``
    and ``msra://NAME`` name published weights. What ``read_content`` gave is not read again.

    Raises:
        InputError: the file cannot be read, or its parameter names are nobody's that we know.
    """
    content = source if isinstance(source, FileContent) else read_source(source)
    return convert(content, content.origin) if content.metadata is None else _from_ours(content, content.metadata)


def read_source(source: str | Path) -> FileContent:
    """``read_content``, of published networks' names too.

    Raises:
        InputError: as ``read_content``; or nobody publishes them, or they can't be fetched.
    """
    return read_content(fetch_published(str(source)) if is_published_name(str(source)) else source)


def convert(content: FileContent, origin: str) -> BackboneWeights:
    """Another project's tensors under our names.

    Args:
        content: from ``read_content``, or ``content_of`` a state dict in memory.
        origin: where it comes from, for messages.

    Raises:
        InputError: the parameter names are nobody's that we know.
    """
    row = find_format(content.tensors)
    if row is None:
        sample = ", ".join(sorted(content.tensors)[:2]) or "no tensors at all"
        known = ", ".join(row.owner for row in FORMATS)
        raise InputError(f"{origin}: the parameter names ({sample}) are no known classifier's: {known}, or our own")
    network = row.convert(content)
    unread = f"; {network.unread} tensors of its detector unread" if network.unread else ""
    return replace(network, origin=f"{origin} ({row.owner}{unread})")


def _from_ours(content: FileContent, metadata: ModelMetadata) -> BackboneWeights:
    if metadata.task != "classification" or metadata.input is None:
        raise InputError(f"{content.origin}: holds {metadata.called}, not a classification network; name a classifier")
    backbone = metadata.architecture["backbone"]
    variant = VARIANTS.get(backbone)
    tensors = content.tensors
    mean = tensors.get("normalize.mean")
    return BackboneWeights(
        {name.removeprefix("network."): tensor for name, tensor in tensors.items() if name.startswith("network.")},
        metadata.input,
        variant.stride_on if isinstance(variant, ResNetVariant) and variant.block == "bottleneck" else None,
        backbone,
        metadata.classes,
        mean_image=mean if mean is not None and mean.shape[1:] != (1, 1) else None,
        origin=content.origin,
    )
