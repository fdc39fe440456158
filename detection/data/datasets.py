"""Detection data by name: ``digits``, ``voc:DIR``, ``coco:DIR``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backbones.errors import InputError, did_you_mean
from detection.data.annotations import DetectionData
from detection.data.faults import Fault
from detection.data.layouts import name_near

LAYOUTS = ("voc:DIR", "coco:DIR")
NAMES = ("digits",)


def read_dataset(
    name: str, split: str, classes: Sequence[str] | None = None, *, masks: bool = False
) -> tuple[DetectionData, list[Fault]]:
    """A split of a data set, and its faults.

    Args:
        name: a name, or a layout with its folder.
        split: such as ``train``, ``val``, ``test``, ``trainval``, ``val2017``.
        classes: names in the order of the labels; by default those of the data.

    Raises:
        InputError: no such data set, folder or split.
    """
    if name == "digits":
        from detection.data.digits import read_digits

        return read_digits(split), []
    layout, colon, folder = name.partition(":")
    if not colon or layout not in ("voc", "coco"):
        near = name_near(Path(name).expanduser()) if Path(name).expanduser().is_dir() else None
        if near:
            raise InputError(f"{name}: a folder needs its layout in front; did you mean --dataset {near}?")
        known = (*NAMES, *LAYOUTS)
        raise InputError(f"no dataset is named {name!r}{did_you_mean(name, NAMES)}; there are {', '.join(known)}")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"--dataset {name}: there is no such folder; name one, from where you are or from /")
    if layout == "voc":
        from detection.data.voc import read_voc

        return read_voc(root, split, classes, masks=masks)
    from detection.data.coco import read_coco

    return read_coco(root, split, classes, masks=masks)
