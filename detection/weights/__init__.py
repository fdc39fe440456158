"""Other projects' detectors, converted on reading: one file for each project, and one for what all share."""

from __future__ import annotations

from detection.weights.reading import convert_detector, is_detector, read_source

__all__ = ["convert_detector", "is_detector", "read_source"]
