"""Exported models and how to run them. Importing this package, or running an ONNX file, needs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.runtimes import load_runtime as load_runtime

_HOMES = {"load_runtime": "deploy.runtimes"}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'deploy' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
