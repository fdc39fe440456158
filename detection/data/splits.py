"""Names of splits, and the record of those that were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backbones.running.atomic_write import write_text
from detection.data.annotations import DetectionData

_WORDS = {"train": ("training",), "val": ("valid", "validation"), "test": ("testing",)}


def words_for(split: str) -> tuple[str, ...]:
    """A split's name, then what tools also call it: ``val``, ``valid``, ``validation``."""
    return (split, *_WORDS.get(split, ()))


def names_a_split(name: str) -> bool:
    """Whether a file or folder is named like a split, such as ``val2017``."""
    return name.lower().startswith((*_WORDS, "mini"))


def write_splits(folder: Path, splits: Mapping[str, DetectionData | None]) -> None:
    """Write down which pictures belong to which split, where the data had none and they were made.

    Args:
        folder: a run folder; the lists become ``splits/NAME.txt``, one picture's path a line.
        splits: the data by the name of the split; what came with splits of its own is left out.
    """
    for name, data in splits.items():
        if data is not None and data.made_split:
            write_text(folder / "splits" / f"{name}.txt", "".join(f"{path}\n" for path in data.annotations.names))
