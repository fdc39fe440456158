"""Segmentation data by name: the detection sets with masks, painted, and VOC's label images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backbones.errors import InputError
from detection.data.datasets import read_dataset
from detection.data.faults import Fault, refuse_faulty_files
from detection.segmentation.labelled_images import SegmentationData

logger = logging.getLogger("shortcut")
_SHOWN = 20


def read_segmentation(
    name: str, split: str, classes: Sequence[str] | None = None, *, data_dir: str | Path | None = None
) -> tuple[SegmentationData, list[Fault]]:
    """A split of a data set, and its faults.

    Args:
        name: ``voc2007``, ``voc2012`` and ``voc:DIR`` for label images; what else ``read_dataset`` takes for classes
            painted from masks.
        split: such as ``train``, ``val``, ``test``, ``trainval``, ``val2017``.
        classes: names in the order of the labels, background first; by default those of the data.
        data_dir: where named sets lie; by default ``$DATA_DIR`` or ``data``.

    Raises:
        InputError: no such data set, folder or split, it has no masks, or classes that are not among ``classes``.
    """
    folder = _label_folder(name, data_dir)
    if folder is not None:
        from detection.segmentation.label_images import read_label_images

        return read_label_images(folder, split, classes)
    from detection.segmentation.painting import painted

    found, faults = read_dataset(name, split, masks=True, data_dir=data_dir)
    if classes is not None:
        found = replace(found, annotations=found.annotations.relabelled(classes[1:]))
    return painted(found), faults


def _label_folder(name: str, data_dir: str | Path | None) -> Path | None:
    """The folder of a set that has label images; None for sets that are painted, and where there is no folder."""
    if name in ("voc2007", "voc2012"):
        from detection.data.named import voc_folder

        return voc_folder(int(name.removeprefix("voc")), data_dir)
    layout, _, folder = name.partition(":")
    root = Path(folder).expanduser()
    return root if layout == "voc" and root.is_dir() else None


def refuse_faulty_labels(faults: Sequence[Fault], dataset: str) -> None:
    """Stop at files that cannot be trained on, naming the first twenty; mention objects that were left out.

    Raises:
        InputError: a file is missing or unusable.
    """
    files = [fault for fault in faults if fault.kind == "file"]
    if not files:
        refuse_faulty_files(faults, dataset)
        return
    for fault in files[:_SHOWN]:
        logger.warning("%s", fault)
    rest = f", and {len(files) - 1} more" if len(files) > 1 else ""
    raise InputError(f"{files[0]}{rest}; mend or remove them")
