"""Files that are whole or absent: written under another name, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the place of ``path`` when the block succeeds.

    A process killed at any moment leaves the old file or the new one, and at worst a ``.partial`` beside it,
    which the next writer replaces. Processes of one run may write the same file at once: each has its own path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f".{os.environ['RANK']}" if "RANK" in os.environ else ""
    partial = path.with_name(path.name + own + PARTIAL)
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, two spaces deep."""
    write_text(path, json.dumps(value, indent=2) + "\n")
