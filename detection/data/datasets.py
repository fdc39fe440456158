"""Detection data by name: ``digits``, ``coco``, ``voc0712``, ..., ``voc:DIR``, ``coco:DIR``, ``yolo:DIR``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from backbones.errors import InputError, did_you_mean
from detection.data.annotations import DetectionData
from detection.data.faults import Fault, refuse_faulty_files
from detection.data.layouts import name_near
from detection.data.names import HELP, NAMES

Reader = Callable[..., tuple[DetectionData, list[Fault]]]


def read_dataset(
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
    *,
    masks: bool = False,
    data_dir: str | Path | None = None,
) -> tuple[DetectionData, list[Fault]]:
    """A split of a data set, and its faults.

    Args:
        name: a name, or a layout with its folder.
        split: such as ``train``, ``val``, ``test``, ``trainval``, ``val2017``.
        classes: names in the order of the labels; by default those of the data.
        masks: read instance masks, too; objects without one are faults and left out.
        data_dir: where named sets lie; by default ``$DATA_DIR`` or ``data``.

    Raises:
        InputError: no such data set, folder or split, or it has no masks.
    """
    if name == "digits":
        from detection.data.digits import read_digits

        return read_digits(split), []
    if name in NAMES:
        from detection.data.named import read_named

        return read_named(name, split, classes, masks=masks, data_dir=data_dir)
    layout, colon, folder = name.partition(":")
    if not colon or layout not in ("voc", "coco", "yolo"):
        near = name_near(Path(name).expanduser()) if Path(name).expanduser().is_dir() else None
        if near:
            raise InputError(f"{name}: a folder needs its layout in front; did you mean --dataset {near}?")
        raise InputError(f"no dataset is named {name!r}{did_you_mean(name, NAMES)}; there are {HELP}")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"--dataset {name}: there is no such folder; name one, from where you are or from /")
    reader: Reader = getattr(import_module(f"detection.data.{layout}"), f"read_{layout}")
    return reader(root, split, classes, masks=masks)


def read_checked(
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
    *,
    masks: bool = False,
    data_dir: str | Path | None = None,
) -> DetectionData:
    """As ``read_dataset``, for what is to be trained on or scored: faults are mentioned or end here.

    The headers of all pictures are looked at, so that a wrong size is told before a run and not in it; of several
    processes each looks at its share.

    Raises:
        InputError: as ``read_dataset`` does, or a file is missing, unreadable or of another size than annotated.
    """
    from backbones.running.distributed import share_of
    from detection.data.checking import check_pictures

    data, faults = read_dataset(name, split, classes, masks=masks, data_dir=data_dir)
    refuse_faulty_files([*faults, *check_pictures(data, decode=False, images=share_of(len(data)))], name)
    return data
