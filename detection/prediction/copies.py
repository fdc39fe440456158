"""Drawn copies: where they go, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.images import Picture
from detection.drawing import draw_detections, save_drawn
from detection.prediction.sources import Source


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
        drawn: the function that draws what is found on a copy.
    """

    folder: Path
    classes: Sequence[str]
    format: str = "png"
    enlarge: int = 1
    drawn: Callable[..., Picture] = draw_detections

    def path(self, source: Source) -> Path:
        """Where a file's copy goes."""
        return self.folder / copy_name(source, self.format)

    def draw(self, picture: Picture, found: Any) -> Picture:
        """A copy with what was found on it."""
        return self.drawn(picture, found, self.classes, enlarge=self.enlarge)

    def save(self, source: Source, drawn: Picture) -> None:
        """Write a picture's copy."""
        save_drawn(self.path(source), drawn)
