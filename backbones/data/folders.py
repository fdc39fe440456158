"""A folder of class folders: ``DIR/CLASS/*.jpg``, the layout of ImageNet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.images import SUFFIXES, Picture, read_image


@dataclass(frozen=True)
class LabelledFiles:
    """Picture files with their labels.

    Attributes:
        root: the folder that ``names`` are relative to.
        names: [N] paths, as one flat array: a million of them cost workers no memory.
        labels: [N], indices into ``classes``.
        classes: names in the order of the labels.
    """

    root: Path
    names: NDArray[np.str_]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def picture(self, number: int) -> Picture:
        return read_image(self.path(number))

    def content(self, number: int) -> bytes:
        """The bytes of a picture's file."""
        return self.path(number).read_bytes()

    def name(self, number: int) -> str:
        """What errors call a picture."""
        return str(self.path(number))

    def path(self, number: int) -> Path:
        """Where a picture lies."""
        return self.root / str(self.names[number])

    def subset(self, numbers: NDArray[np.int64]) -> LabelledFiles:
        """Some of the pictures, in the order given."""
        return replace(self, names=self.names[numbers], labels=self.labels[numbers])


def read_folder(root: Path, classes: Sequence[str] = ()) -> LabelledFiles:
    """List a folder of class folders.

    Args:
        root: the folder.
        classes: names in the order that labels shall have, such as a model's; by default the folders', sorted.

    Raises:
        InputError: there is no picture, or a folder's name is not among ``classes``.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    names = tuple(classes) or tuple(folder.name for folder in folders)
    labels = {name: label for label, name in enumerate(names)}
    files: list[tuple[str, int]] = []
    for folder in folders:
        pictures = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if pictures and folder.name not in labels:
            raise InputError(
                f"{folder}: the model has no class {folder.name!r}; give --classes FILE with one name a line, in the "
                "order of the classifier"
            )
        files += [(f"{folder.name}/{name}", labels[folder.name]) for name in pictures]
    if not files:
        raise InputError(f"{root}: no pictures in class folders ({', '.join(SUFFIXES)})")
    paths, numbers = zip(*files, strict=True)
    return LabelledFiles(root, np.array(paths), np.array(numbers, np.int64), names)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Names of classes, one a line; of ``n01440764 tench`` the WordNet id, which names ImageNet's folders.

    Raises:
        InputError: the file cannot be read, or a name occurs twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of classes ({error})") from error
    names = tuple(line.split()[0] if re.match(r"n\d{8}\s", line) else line for line in lines)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: class {twice!r} occurs twice")
    return names
