"""Results as files in the page's own folder, whence browsers fetch them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.images import Picture
from detection.drawing import FORMATS

_PNG_PIXELS = 1_500_000
"""Larger pictures are written as JPEG, which takes a tenth of the time."""


@dataclass(frozen=True)
class ResultFiles:
    """Writes each file into a folder of its own, so that its name is free.

    Attributes:
        folder: Gradio's cache, where age takes the files away.
    """

    folder: Path

    def picture(self, picture: Picture, stem: str) -> str:
        """A drawn picture; the path of its file."""
        suffix = ".png" if picture.shape[0] * picture.shape[1] <= _PNG_PIXELS else ".jpg"
        path = self.place(f"{stem}{suffix}")
        Image.fromarray(picture).save(path, **FORMATS[suffix])
        return str(path)

    def json(self, content: Any, stem: str) -> str:
        """Plain values; the path of their file."""
        path = self.place(f"{stem}.json")
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return str(path)

    def place(self, name: str) -> Path:
        """Where a file of this name may be written."""
        return Path(tempfile.mkdtemp(dir=self.folder)) / name
