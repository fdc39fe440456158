"""A folder of class folders: ``DIR/CLASS/*.jpg``, the layout of ImageNet's validation set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from backbones.images import SUFFIXES, Picture, read_image


@dataclass(frozen=True)
class LabelledFiles:
    """Picture files with their labels.

    Attributes:
        files: the paths.
        labels: indices into ``classes``.
        classes: names in the order of the labels.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def pictures(self) -> Iterator[Picture]:
        """Every picture, in order.

        Raises:
            InputError: one cannot be read; the message names it.
        """
        return (read_image(path) for path in self.files)


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
    files: list[tuple[Path, int]] = []
    for folder in folders:
        pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if pictures and folder.name not in labels:
            raise InputError(
                f"{folder}: the model has no class {folder.name!r}; give --classes FILE with one name a line, in the "
                "order of the classifier"
            )
        files += [(path, labels[folder.name]) for path in pictures]
    if not files:
        raise InputError(f"{root}: no pictures in class folders ({', '.join(SUFFIXES)})")
    paths, numbers = zip(*files, strict=True)
    return LabelledFiles(paths, numbers, names)


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
