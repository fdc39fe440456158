"""Weights on disk: ours (safetensors with metadata), and other projects' converted on reading."""

from __future__ import annotations

from backbones.weights.loading import load_weights
from backbones.weights.saving import save_weights

__all__ = ["load_weights", "save_weights"]
