"""How much one visitor may ask for."""

from __future__ import annotations

from dataclasses import dataclass

VIDEO_PIXELS = 9_000_000
"""Of one frame: 4K has 8.3 million."""
VIDEO_RATE = 8.0
"""Frames in a second that are looked at."""


@dataclass(frozen=True)
class Limits:
    """Checked before anything is decoded.

    Attributes:
        file_bytes: of one upload.
        pixels: of one picture.
        pictures: at once; together they hold at most twice ``pixels``.
        seconds: of a video that are looked at.
        queue: visitors that wait.
        keep: seconds until uploads and results are deleted.
    """

    file_bytes: int = 10_000_000
    pixels: int = 25_000_000
    pictures: int = 16
    seconds: float = 10.0
    queue: int = 16
    keep: int = 600

    @property
    def upload_bytes(self) -> int:
        """Of one request that uploads files: a few at their limit, or many small ones."""
        return 3 * self.file_bytes + 2**20

    @property
    def request_bytes(self) -> int:
        """Of any other request: they name uploaded files, and hold none."""
        return 2**18

    @property
    def many_pixels(self) -> int:
        """Of all pictures at once."""
        return 2 * self.pixels
