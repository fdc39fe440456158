"""What travels with an exported model: everything that a runtime needs besides the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backbones.errors import InputError

KEY = "shortcut"
FORMAT = 1


def check_format(metadata: dict[str, Any], path: Path) -> dict[str, Any]:
    """The metadata, if this version understands it.

    Raises:
        InputError: it was written by a newer version.
    """
    if metadata["format"] > FORMAT:
        raise InputError(f"{path}: format {metadata['format']} is newer than this version reads ({FORMAT}); update")
    return metadata
