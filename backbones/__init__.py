"""Residual networks of He et al. (2015) as backbones.

Names are imported when they are first used, so that ``import backbones`` and the modules that need only numpy
and pillow (``backbones.images``) pull in no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbones.building import build_backbone as build_backbone
    from backbones.variants import list_backbones as list_backbones
    from backbones.variants import register_backbone as register_backbone
    from backbones.weights import load_weights as load_weights
    from backbones.weights import save_weights as save_weights

_HOMES = {
    "build_backbone": "backbones.building",
    "list_backbones": "backbones.variants",
    "register_backbone": "backbones.variants",
    "load_weights": "backbones.weights",
    "save_weights": "backbones.weights",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'backbones' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
