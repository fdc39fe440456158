"""The data that a model is tested on, with labels as the model counts them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.data.datasets import read_classification
from backbones.data.labelled import LabelledPictures
from backbones.protocols.class_names import are_numbers, labels_for


@dataclass(frozen=True)
class LabelledSplit:
    """A split of a data set.

    Attributes:
        pictures: its pictures; labels as the data counts them.
        labels: [N], as the model counts them.
        split: its name.
    """

    pictures: LabelledPictures
    labels: NDArray[np.int64]
    split: str


def read_for(
    classes: tuple[str, ...], dataset: str, split: str | None = None, data_dir: str | None = None
) -> LabelledSplit:
    """Read a split, and count its labels as a model does.

    Args:
        classes: the model's; those of a file that does not say are 0, 1, 2, ...
        dataset, data_dir: as ``read_classification`` takes them.
        split: by default ``val``, or everything where a folder or file has no parts.

    Raises:
        InputError: as ``read_classification``, or the model lacks a class of the data.
    """
    split = split or default_split(dataset)
    data = read_classification(dataset, split, () if are_numbers(classes) else classes, data_dir)
    return LabelledSplit(data, labels_for(np.asarray(data.labels), data.classes, classes, dataset), split)


def default_split(dataset: str) -> str:
    """``val``, but ``all`` for ``folder:DIR`` without the folders train, val, test, and for ``npz:FILE``."""
    layout, _, place = dataset.partition(":")
    path = Path(place).expanduser()
    if layout == "folder" and not any((path / part).is_dir() for part in ("train", "val", "test")):
        return "all"
    return "all" if layout == "npz" and path.is_file() else "val"
