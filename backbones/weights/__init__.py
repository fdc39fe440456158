"""Weights on disk: ours (safetensors with metadata), and other projects' converted on reading."""

from __future__ import annotations

from backbones.weights.loading import load_weights
from backbones.weights.reading import BackboneWeights, read_weights
from backbones.weights.saving import save_weights
from backbones.weights.torchvision_export import save_torchvision, to_torchvision

__all__ = [
    "BackboneWeights", "load_weights", "read_weights", "save_torchvision", "save_weights", "to_torchvision",
]  # fmt: skip
