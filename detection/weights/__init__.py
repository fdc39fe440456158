"""Other projects' detectors, converted on reading: one file for each project, and one for what all share."""

from __future__ import annotations

from detection.weights.reading import is_detector, is_foreign, read_foreign_detector

__all__ = ["is_detector", "is_foreign", "read_foreign_detector"]
