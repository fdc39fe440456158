"""Segmentation data by name: the detection sets with masks, painted, and VOC's label images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backbones.errors import InputError
from detection.data.datasets import read_dataset
from detection.data.faults import Fault
from detection.segmentation.labelled_images import SegmentationData

logger = logging.getLogger("shortcut")
_SHOWN = 20


def read_segmentation(
    name: str, split: str, classes: Sequence[str] | None = None
) -> tuple[SegmentationData, list[Fault]]:
    """A split of a data set, and its faults.

    Args:
        name: ``voc:DIR`` for label images; what ``read_dataset`` takes for classes painted from masks.
        split: such as ``train``, ``val``, ``test``, ``trainval``, ``val2017``.
        classes: names in the order of the labels, background first; by default those of the data.

    Raises:
        InputError: no such data set, folder or split, it has no masks, or classes that are not among ``classes``.
    """
    layout, _, folder = name.partition(":")
    if layout == "voc" and Path(folder).expanduser().is_dir():
        from detection.segmentation.label_images import read_label_images

        return read_label_images(Path(folder).expanduser(), split, classes)
    from detection.segmentation.painting import painted

    data, faults = read_dataset(name, split)
    if classes is not None:
        data = replace(data, annotations=data.annotations.relabelled(classes[1:]))
    return painted(data), faults


def refuse_faulty_labels(faults: Sequence[Fault]) -> None:
    """Stop at files that cannot be trained on, naming the first twenty; mention objects that were left out.

    Raises:
        InputError: a file is missing or unusable.
    """
    files = [fault for fault in faults if fault.kind == "file"]
    for fault in [*files, *(fault for fault in faults if fault.kind != "file")][:_SHOWN]:
        logger.warning("%s", fault)
    if files:
        rest = f", and {len(files) - 1} more" if len(files) > 1 else ""
        raise InputError(f"{files[0]}{rest}; mend or remove them")
