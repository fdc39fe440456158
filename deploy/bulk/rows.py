"""What is kept of each picture: one row, as JSON and as Parquet hold it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from backbones.images import Size
from detection.detections import Detections

Row = dict[str, Any]
"""``file``, ``height``, ``width``, ``error`` (None unless it could not be read) and ``detections``, a list of
dictionaries with ``class``, ``score``, ``box`` and, of models with masks, ``mask``: the same as ``predict`` lists."""


def shown_name(path: str | os.PathLike[str]) -> str:
    """A file's name as text: names of files may be no text, listings always are."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def found_row(name: str, size: Size, found: Detections, classes: Sequence[str]) -> Row:
    """Of a picture that was looked at."""
    height, width = size
    return {"file": name, "height": height, "width": width, "error": None, "detections": found.to_json(classes)}


def failed_row(name: str, reason: str) -> Row:
    """Of one that could not be read."""
    return {"file": name, "height": None, "width": None, "error": " ".join(reason.split()), "detections": []}


def chosen(found: Detections, thresholds: Sequence[float], most: int | None) -> Detections:
    """Those that reach their class's threshold, at most so many."""
    kept = found.above(thresholds)
    return kept if most is None else kept[:most]


def plain_thresholds(thresholds: Sequence[float]) -> list[float | None]:
    """As JSON holds them: None for a class that is not wanted."""
    return [None if math.isinf(least) else least for least in thresholds]
