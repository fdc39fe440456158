"""Classification data by name: ``digits``, ``cifar10``, ``imagenet``, ``folder:DIR``, ``npz:FILE``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.data.arrays import LabelledImages
from backbones.data.folders import LabelledFiles
from backbones.data.labelled import LabelledPictures
from backbones.data.names import HELP as HELP
from backbones.data.names import NAMES
from backbones.errors import InputError, did_you_mean

_HELD_OUT = 0.1


def read_classification(
    name: str, split: str, classes: Sequence[str] = (), data_dir: str | None = None, fetch: bool = False
) -> LabelledPictures:
    """A split of a data set.

    Data without splits of its own is divided, always alike: ``val`` is a tenth, ``train`` the rest, ``all`` is
    everything. Where only ``train`` and ``test`` exist, ``val`` is cut from the former and ``trainval`` is both.

    Args:
        name: a name, or a layout with its folder or file.
        split: ``train``, ``val``, ``trainval``, ``test`` or ``all``, as far as the data has them.
        classes: names in the order that labels shall have, such as a model's.
        data_dir: where named sets lie; by default ``$DATA_DIR`` or ``data``.
        fetch: download a named set with a public address if it is not there.

    Raises:
        InputError: no such data set, folder or split.
    """
    if name == "digits":
        from backbones.data.digits import digits_classification

        return digits_classification(split)
    if name == "cifar10":
        from backbones.data.cifar10 import read_cifar10

        return read_cifar10(named_folder(name, data_dir), split, fetch)
    if name == "imagenet":
        from backbones.data.imagenet import read_imagenet

        return read_imagenet(named_folder(name, data_dir), split, tuple(classes))
    layout, colon, place = name.partition(":")
    if colon and layout == "folder":
        return _folder(Path(place).expanduser(), split, tuple(classes))
    if colon and layout == "npz":
        return _npz(Path(place).expanduser(), split, tuple(classes))
    if Path(name).expanduser().is_dir():
        raise InputError(f"{name}: a folder needs its layout in front; say --dataset folder:{name} or npz:{name}")
    raise InputError(f"no dataset is named {name!r}{did_you_mean(name, NAMES)}; there are {HELP}")


def named_folder(name: str, data_dir: str | None) -> Path:
    """Where a named set lies."""
    return Path(data_dir or os.environ.get("DATA_DIR") or "data").expanduser() / name


def _folder(root: Path, split: str, classes: tuple[str, ...]) -> LabelledFiles:
    from backbones.data.folders import read_folder
    from backbones.data.splits import seeded_split

    own = sorted(name for name in ("train", "val", "test") if (root / name).is_dir())
    if split in own:
        names = classes or (read_folder(root / "train").classes if "train" in own else ())
        return read_folder(root / split, names)
    if own:
        raise InputError(f"{root}: has no split {split!r}; it has {', '.join(own)}")
    whole = read_folder(root, classes)
    if split == "all":
        return whole
    chosen = set(seeded_split([str(name) for name in whole.names], split))
    return whole.subset(_places([str(name) in chosen for name in whole.names]))


def _npz(path: Path, split: str, classes: tuple[str, ...]) -> LabelledImages:
    from backbones.data.npz import read_npz
    from backbones.data.splits import hold_out

    if path.is_dir():
        if (path / f"{split}.npz").is_file():
            held = split == "train" and not (path / "val.npz").is_file()
            whole = read_npz(path / f"{split}.npz", classes)
            return whole.subset(hold_out(len(whole.labels), round(_HELD_OUT * len(whole.labels)))[0]) if held else whole
        if split not in ("val", "trainval"):
            raise InputError(f"{path}: has no {split}.npz")
        whole = read_npz(path / "train.npz", classes)
        split = "all" if split == "trainval" else split
    else:
        whole = read_npz(path, classes)
    if split == "all":
        return whole
    if split not in ("train", "val"):
        raise InputError(f"{path}: has no split {split!r}; made ones are train, val and all")
    train, val = hold_out(len(whole.labels), round(_HELD_OUT * len(whole.labels)))
    return whole.subset(train if split == "train" else val)


def _places(chosen: list[bool]) -> NDArray[np.int64]:
    return np.flatnonzero(np.array(chosen))
