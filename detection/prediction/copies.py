"""Drawn copies: where they go, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.images import Picture
from backbones.running.atomic_write import atomic_path
from detection.detections import Detections
from detection.drawing import draw_detections
from detection.prediction.sources import Source

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1},
    "jpg": {"format": "JPEG", "quality": 92},
}


def copy_name(source: Source, format: str) -> str:
    """What a file's copy is called, relative to the folder; videos become MP4."""
    return f"{source.stem}.{'mp4' if source.is_video else format}"


@dataclass(frozen=True)
class Copies:
    """How pictures and videos are drawn on.

    Attributes:
        folder: where copies go.
        classes: names by label.
        format: ``png`` or ``jpg``; videos become MP4.
        enlarge: how many times larger than the originals they are.
    """

    folder: Path
    classes: Sequence[str]
    format: str = "png"
    enlarge: int = 1

    def path(self, source: Source) -> Path:
        """Where a file's copy goes."""
        return self.folder / copy_name(source, self.format)

    def draw(self, picture: Picture, found: Detections) -> Picture:
        """A copy with what was found on it."""
        return draw_detections(picture, found, self.classes, enlarge=self.enlarge)

    def save(self, source: Source, drawn: Picture) -> None:
        """Write a picture's copy."""
        with atomic_path(self.path(source)) as partial:
            Image.fromarray(drawn).save(partial, **FORMATS[self.format])
