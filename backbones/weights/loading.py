"""From a file, whoever wrote it, into a network: strictly, and with one line that says so."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.resnet import CAFFE_POOL, StemPool
from backbones.variants import VARIANTS, ResNetVariant
from backbones.weights.file_content import FileContent
from backbones.weights.reading import BackboneWeights, read_weights
from backbones.weights.variant_names import name_of_variant

__all__ = ["BackboneWeights", "load_weights", "read_weights"]

logger = logging.getLogger("shortcut")
_COUNTER = "num_batches_tracked"
_CLASSIFIERS = ("fc.", "classifier.")


def load_weights(
    network: Backbone, source: str | Path | FileContent | BackboneWeights, *, classifier: bool = True
) -> BackboneWeights:
    """Load a file into a network, in place. Every tensor must find its place.

    A network without a classifier (``num_classes=0``) leaves the file's classifier unread. A residual network takes
    over the grid of the max pooling that the weights ask for.

    Args:
        network: from ``build_backbone``; its batch normalization may be frozen.
        source: what ``read_weights`` takes, or its result.
        classifier: False keeps the network's own classifier, whatever the file has: for fine-tuning on other classes,
            and for files without one.

    Returns:
        What was read, with the input convention to use.

    Raises:
        InputError: tensors are missing, left over or of another shape, or the stride sits elsewhere.
    """
    weights = source if isinstance(source, BackboneWeights) else read_weights(source)
    _check_variant(network, weights)
    wanted, given = _counted(network.state_dict()), _counted(weights.tensors)
    headed = any(name.startswith(_CLASSIFIERS) for name in wanted)
    if not (classifier and headed):
        wanted, given = _without_classifier(wanted), _without_classifier(given)
    _check_names(wanted, given, weights.origin)
    grid = {name: value for name, value in weights.tensors.items() if name == CAFFE_POOL}
    if grid and not isinstance(getattr(network, "pool", None), StemPool):
        raise InputError(f"{weights.origin}: needs Caffe's max pooling after conv1, which this network lacks")
    network.load_state_dict({**given, **grid}, strict=False)
    kept = "; the classifier stays the network's own" if headed and not classifier else ""
    logger.info("weights: %d of %d tensors from %s%s", len(given), len(wanted), weights.origin, kept)
    return weights


def _counted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that must agree: neither the batch counters, which frozen norms lack, nor the grid of the pooling."""
    return {name: value for name, value in tensors.items() if not name.endswith(_COUNTER) and name != CAFFE_POOL}


def _without_classifier(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(_CLASSIFIERS)}


def _check_variant(network: Backbone, weights: BackboneWeights) -> None:
    """Networks whose tensors have the same shapes, but which are not the same network."""
    variant: Any = getattr(network, "variant", None)
    if not isinstance(variant, ResNetVariant):
        return
    if variant.block == "bottleneck" and weights.stride_on not in (None, variant.stride_on):
        wanted = name_of_variant(replace(variant, stride_on=weights.stride_on)) or "another"
        raise InputError(
            f"{weights.origin}: bottleneck stride in the {weights.stride_on}, this network has it in the "
            f"{variant.stride_on}: the shapes fit, the outputs would be wrong; use {wanted}"
        )
    theirs = VARIANTS.get(weights.backbone or "")
    if isinstance(theirs, ResNetVariant) and (theirs.block == "plain") != (variant.block == "plain"):
        raise InputError(
            f"{weights.origin}: holds {weights.backbone}, and this network is {name_of_variant(variant) or 'another'}: "
            f"one has shortcuts and one has none; use {weights.backbone}"
        )


def _check_names(wanted: dict[str, Tensor], given: dict[str, Tensor], origin: str) -> None:
    missing = wanted.keys() - given.keys()
    if missing and all(name.startswith(_CLASSIFIERS) for name in missing):
        raise InputError(
            f"{origin}: holds no classifier; load_weights(..., classifier=False) keeps the network's own, "
            f"num_classes=0 builds one without"
        )
    _refuse(origin, "missing", missing)
    _refuse(origin, "left over", given.keys() - wanted.keys())
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)} in the file, {list(wanted[name].shape)} in the network"
            advice = "; classifier=False keeps the network's own" if name.startswith(_CLASSIFIERS) else ""
            raise InputError(f"{origin}: {name} has another shape: {shapes}{advice}")


def _refuse(origin: str, what: str, names: Iterable[str]) -> None:
    names = sorted(names)
    if names:
        listing = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(f"{origin}: does not fit this network, {len(names)} tensors are {what}: {listing}")
