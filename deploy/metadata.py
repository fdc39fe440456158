"""What travels with an exported model: everything that a runtime needs besides the graph."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.resize_fingerprint import resize_fingerprint

logger = logging.getLogger("shortcut")

KEY = "shortcut"
FORMAT = 2


def read_metadata(text: str | None, path: Path) -> dict[str, Any]:
    """The metadata of a file, from the JSON that stands in it under ``KEY``.

    A picture resized differently from the one that the model was exported with gives other results, so a difference
    is logged.

    Raises:
        InputError: there is none, or it was written by a newer or a much older version.
    """
    if text is None:
        raise InputError(f"{path}: has no metadata of this project; export it with deploy/export.py")
    metadata: dict[str, Any] = json.loads(text)
    if metadata["format"] > FORMAT:
        raise InputError(f"{path}: format {metadata['format']} is newer than this version reads ({FORMAT}); update")
    if metadata["format"] < FORMAT:
        raise InputError(f"{path}: format {metadata['format']} is older than {FORMAT}; export the model again")
    if metadata["resize"] != resize_fingerprint():
        logger.warning("%s: pictures are resized differently here (another version of Pillow?)", path)
    return metadata
