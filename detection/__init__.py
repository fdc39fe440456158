"""Detectors and segmenters on the residual networks of ``backbones``; names are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detection.building import build_detector as build_detector
    from detection.building import load_detector as load_detector
    from detection.detections import Detections as Detections
    from detection.segmentation.building import build_segmenter as build_segmenter
    from detection.segmentation.building import load_segmenter as load_segmenter
    from detection.settings import default_settings as default_settings

_HOMES = {
    "build_detector": "detection.building",
    "load_detector": "detection.building",
    "build_segmenter": "detection.segmentation.building",
    "load_segmenter": "detection.segmentation.building",
    "default_settings": "detection.settings",
    "Detections": "detection.detections",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'detection' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
