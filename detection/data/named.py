"""Data sets that are called by name, in the layouts that their archives have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from backbones.data.datasets import named_folder
from backbones.errors import InputError, did_you_mean
from detection.data.annotations import Annotations, DetectionData, Objects, PictureFiles
from detection.data.coco import read_coco
from detection.data.faults import Fault
from detection.data.voc import read_voc
from detection.masks.encoded import EncodedMasks

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

Parts = tuple[tuple[int, str], ...]
"""Years and their own splits."""

COCO_YEARS = {"coco": 2017, "coco2014": 2014}
VOC_PARTS: dict[str, dict[str, Parts]] = {
    "voc2007": {split: ((2007, split),) for split in ("train", "val", "trainval", "test")},
    "voc2012": {split: ((2012, split),) for split in ("train", "val", "trainval")},
    # Table 7: trained on both trainvals, tested on VOC 2007 test.
    "voc0712": {
        "train": ((2007, "trainval"), (2012, "trainval")),
        "trainval": ((2007, "trainval"), (2012, "trainval")),
        "val": ((2007, "test"),),
        "test": ((2007, "test"),),
    },
    # Table 7: trained on all of 2007 and 2012 trainval, tested on the server. A part of 2012 stays aside in ``train``.
    "voc0712++": {
        "train": ((2007, "trainval"), (2007, "test"), (2012, "train")),
        "val": ((2012, "val"),),
        "trainval": ((2007, "trainval"), (2007, "test"), (2012, "trainval")),
    },
}
_NOT_PUBLIC = "the labels of its test images are not public; score on --split val"
_VOC_PLACES = ("VOCdevkit/VOC{0}", "VOC{0}", "voc{0}/VOCdevkit/VOC{0}", "voc{0}/VOC{0}", "voc{0}")
_COCO_PLACES = ("coco", "coco{0}", ".")


def read_named(
    name: str, split: str, classes: Sequence[str] | None, *, masks: bool, data_dir: str | Path | None
) -> tuple[DetectionData, list[Fault]]:
    """A split of a named set.

    Args:
        name: of ``COCO_YEARS`` or ``VOC_PARTS``.
        split: ``train``, ``val``, ``trainval`` or ``test``, as far as the set has them; COCO's also with the year.
        classes, masks: as ``read_dataset`` takes them.
        data_dir: where named sets lie; by default ``$DATA_DIR`` or ``data``.

    Raises:
        InputError: it is not there, with the folder looked in and the layout expected, or has no such split.
    """
    if name in COCO_YEARS:
        year = COCO_YEARS[name]
        split = f"{split}{year}" if split in ("train", "val", "test") else split
        if split == f"test{year}":
            raise InputError(f"{name}: {_NOT_PUBLIC}")
        data, faults = read_coco(coco_folder(name, data_dir), split, classes, masks=masks)
        return replace(data, name=name), faults
    known = VOC_PARTS[name]
    if split not in known:
        if split == "test":
            aside = ", which --split train leaves out (the paper's training set is --split trainval)"
            raise InputError(f"{name}: {_NOT_PUBLIC}{aside if name == 'voc0712++' else ''}")
        raise InputError(f"{name}: no split {split!r}{did_you_mean(split, known)}; there are {', '.join(known)}")
    folders = [voc_folder(year, data_dir) for year, _ in known[split]]
    parts, faults = [], []
    for folder, (_, own) in zip(folders, known[split], strict=True):
        part, found = read_voc(folder, own, classes or VOC_CLASSES, masks=masks)
        parts.append(part)
        faults += [replace(fault, file=f"{folder.name}/{fault.file}") for fault in found]
    data = parts[0] if len(parts) == 1 else join(parts)
    return replace(data, name=name), faults


def voc_folder(year: int, data_dir: str | Path | None) -> Path:
    """Where a year of VOC lies.

    Raises:
        InputError: nowhere below the folder of named sets.
    """
    places = [_below(data_dir, place.format(year)) for place in _VOC_PLACES]
    found = next((place for place in places if (place / "Annotations").is_dir()), None)
    if found is None:
        raise _missing(f"VOC {year}", data_dir, f"VOCdevkit/VOC{year} with Annotations, ImageSets and JPEGImages")
    return found


def coco_folder(name: str, data_dir: str | Path | None) -> Path:
    """Where a year of COCO lies.

    Raises:
        InputError: nowhere below the folder of named sets.
    """
    year = COCO_YEARS[name]
    places = [_below(data_dir, place.format(year)) for place in (name, *_COCO_PLACES)]
    files = [f"annotations/instances_{part}{year}.json" for part in ("val", "train")]
    found = next((place for place in places if any((place / file).is_file() for file in files)), None)
    if found is None:
        layout = f"{name} with annotations/instances_train{year}.json, train{year} and val{year}"
        raise _missing(f"COCO {year}", data_dir, layout)
    return found


def _missing(title: str, data_dir: str | Path | None, layout: str) -> InputError:
    looked = _below(data_dir, "")
    return InputError(
        f"{title} is not in {looked}: expected {layout} there; give --data-dir DIR (or $DATA_DIR), or --download"
    )


def _below(data_dir: str | Path | None, place: str) -> Path:
    return named_folder(place, None if data_dir is None else os.fspath(data_dir))


def join(parts: Sequence[DetectionData]) -> DetectionData:
    """The images of all parts, one part after the other, named from the folder that holds them all.

    Image ids count from 1, since those of the parts may be the same.

    Args:
        parts: of files, with the same classes; all with masks or all without.
    """
    files = [part.pictures for part in parts if isinstance(part.pictures, PictureFiles)]
    assert len(files) == len(parts), "parts are joined by the paths of their files"
    assert len({part.annotations.classes for part in parts}) == 1
    root = Path(os.path.commonpath([pictures.root.resolve() for pictures in files]))
    folders = [pictures.root.resolve().relative_to(root) for pictures in files]
    all_of = [part.annotations for part in parts]
    names = [
        (folder / str(name)).as_posix()
        for folder, annotations in zip(folders, all_of, strict=True)
        for name in annotations.names
    ]
    joined = Annotations(
        np.array(names, np.str_),
        np.arange(1, len(names) + 1),
        np.concatenate([annotations.sizes for annotations in all_of]),
        np.concatenate(([0], np.cumsum(np.concatenate([np.diff(annotations.first) for annotations in all_of])))),
        _join_objects([annotations.objects for annotations in all_of]),
        all_of[0].classes,
        all_of[0].category_ids,
    )
    return DetectionData("+".join(part.name for part in parts), joined, PictureFiles(root, joined))


def _join_objects(parts: Sequence[Objects]) -> Objects:
    masks = [part.masks for part in parts if part.masks is not None]
    return Objects(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ignored for part in parts]),
        np.concatenate([part.areas for part in parts]),
        _join_masks(masks) if len(masks) == len(parts) else None,
    )


def _join_masks(parts: Sequence[EncodedMasks]) -> EncodedMasks:
    lengths = np.concatenate([np.diff(part.first) for part in parts])
    return EncodedMasks(np.concatenate([part.text for part in parts]), np.concatenate(([0], np.cumsum(lengths))))
