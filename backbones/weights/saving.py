"""A classification network to our own file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from backbones.contract import Backbone
from backbones.convention import IMAGENET, InputConvention
from backbones.metadata import ModelMetadata
from backbones.resnet import CAFFE_POOL
from backbones.weights.model_file import write_model


def save_weights(
    network: Backbone,
    path: str | Path,
    backbone: str,
    *,
    convention: InputConvention = IMAGENET,
    classes: Sequence[str] = (),
    mean_image: Tensor | None = None,
    recipe: str | None = None,
    metrics: dict[str, float] | None = None,
) -> Path:
    """Write a network as safetensors with everything that is needed to use it.

    Args:
        network: from ``build_backbone(backbone)``.
        path: ``.safetensors``; written under a temporary name and renamed.
        backbone: the network's name.
        convention: what it expects of its pixels.
        classes: names in the order of the classifier.
        mean_image: the per-pixel mean [3, H, W] of its training set, if it was trained with one.
        recipe, metrics: how it was trained and what it reached.

    Returns:
        The path.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    if mean_image is not None:
        tensors["normalize.mean"] = mean_image
    metadata = ModelMetadata(
        task="classification",
        architecture={"backbone": backbone, **({"pool": "caffe"} if f"network.{CAFFE_POOL}" in tensors else {})},
        classes=tuple(classes),
        input=convention,
        more={"recipe": recipe, "metrics": metrics or {}},
    )
    write_model(Path(path), tensors, metadata)
    return Path(path)
