"""Weights on disk: ours (safetensors with metadata), and other projects' converted on reading.

Names are imported when they are first used: metadata are read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbones.weights.loading import load_weights as load_weights
    from backbones.weights.reading import BackboneWeights as BackboneWeights
    from backbones.weights.reading import read_weights as read_weights
    from backbones.weights.saving import save_weights as save_weights
    from backbones.weights.torchvision_export import save_torchvision as save_torchvision
    from backbones.weights.torchvision_export import to_torchvision as to_torchvision

_HOMES = {
    "BackboneWeights": "reading", "load_weights": "loading", "read_weights": "reading",
    "save_torchvision": "torchvision_export", "save_weights": "saving", "to_torchvision": "torchvision_export",
}  # fmt: skip
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'backbones.weights' has no attribute {name!r}")
    return getattr(import_module(f"backbones.weights.{_HOMES[name]}"), name)
