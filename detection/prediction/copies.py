"""Drawn copies: where they go, and how they are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.images import Picture
from detection.drawing import draw_detections, save_drawn
from detection.prediction.sources import Source


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
        suffix = ".mp4" if source.is_video else f".{self.format}"
        return self.folder / source.stem.with_name(source.stem.name + suffix)

    def draw(self, picture: Picture, found: Any) -> Picture:
        """A copy with what was found on it."""
        return self.drawn(picture, found, self.classes, enlarge=self.enlarge)

    def save(self, source: Source, drawn: Picture) -> None:
        """Write a picture's copy."""
        save_drawn(self.path(source), drawn)

    def refuse_overwriting(self, sources: Sequence[Source]) -> None:
        """Make sure that no copy takes the place of a file that is read.

        Raises:
            InputError: one would.
        """
        read = {os.path.realpath(source.path) for source in sources}
        for source in sources:
            if os.path.realpath(self.path(source)) in read:
                raise InputError(
                    f"{self.path(source)}: is read, and a drawn copy would replace it; choose another --output"
                )
