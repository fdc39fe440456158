"""timm's VGG: torchvision's convolutions, and the linear layers written as convolutions."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from backbones.convention import IMAGENET
from backbones.weights.file_content import FileContent
from backbones.weights.foreign_names import from_torchvision
from backbones.weights.formats.contract import BackboneWeights, Format

_LINEAR = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}


def _recognises(names: Collection[str]) -> bool:
    return "features.0.weight" in names and any(f"{layer}.weight" in names for layer in _LINEAR)


def _convert(content: FileContent) -> BackboneWeights:
    tensors: dict[str, Tensor] = {}
    for name, tensor in content.tensors.items():
        layer, _, kind = name.rpartition(".")
        # A 7x7 convolution on a 7x7 map reads channels, rows, columns: our order of flattening.
        tensors[f"{_LINEAR.get(layer, layer)}.{kind}"] = (
            tensor.flatten(1) if layer in _LINEAR and kind == "weight" else tensor
        )
    return BackboneWeights(from_torchvision(tensors), IMAGENET)


TIMM_VGG = Format("timm's", _recognises, _convert)
