"""The layout of COCO: ``annotations/instances_SPLIT.json`` and a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.data.splits import seeded_split
from backbones.errors import InputError, did_you_mean
from detection.data.annotations import Annotations, DetectionData, Objects, PictureFiles
from detection.data.coco_folders import CocoFiles, find_coco
from detection.data.coco_parts import (
    CocoImages,
    CocoObjects,
    Id,
    choose_images,
    list_images,
    read_categories,
    read_objects,
)
from detection.data.faults import Fault, box_fault, overhang
from detection.data.json_stream import json_members
from detection.masks.encoded import EncodedMasks

_PARTS = ("images", "annotations", "categories")
_UNKNOWN, _NOT_CHOSEN = -2, -1


@dataclass
class _Content:
    """What a file holds; None until it has come."""

    folder: Path | None = None
    images: CocoImages | None = None
    objects: CocoObjects | None = None
    categories: dict[Id, str] | None = None


def read_coco(
    root: Path, split: str, classes: Sequence[str] | None = None, *, masks: bool = False
) -> tuple[DetectionData, list[Fault]]:
    """Read one split.

    Category ids may be any integers; labels are their ranks. Boxes (x, y, width, height) become corners.

    Args:
        root: the folder that holds ``annotations``.
        split: ``val2017``, or a beginning that fits one file only.
        classes: a subset of the file's categories, in the order that labels shall have; by default all.
        masks: read masks, too; objects without one are left out.

    Returns:
        The data, and what was left out or is missing.

    Raises:
        InputError: the folder has another layout, there is no such split, the JSON is no COCO file, or masks are asked
            for and it has none.
    """
    source = find_coco(root, split)
    faults: list[Fault] = []
    content = _read(source, split, masks, faults)
    images, objects, names = content.images, content.objects, content.categories
    if images is None or objects is None or names is None or content.folder is None:
        raise InputError(f"{source.path}: not a COCO file (it needs the lists {', '.join(_PARTS)})")
    chosen = list(names) if classes is None else _chosen(names, classes, source.path)
    annotations = _assemble(images, objects, names, chosen, masks, source.path, faults)
    pictures = PictureFiles(content.folder, annotations)
    return DetectionData(f"coco:{root.name}", annotations, pictures, made_split=source.made_split), faults


def _read(source: CocoFiles, split: str, masks: bool, faults: list[Fault]) -> _Content:
    """Go through the file once, or twice if it lists objects before images."""
    content = _Content()
    for _ in range(2):
        with json_members(source.path) as members:
            for part in members:
                if part not in _PARTS or not members.is_list():
                    continue
                if part == "images" and content.images is None:
                    listed = list_images(members.items(), source.path)
                    names = [name for _, name, _, _ in listed]
                    content.folder = source.picture_folder(names)
                    chosen = set(seeded_split(names, split)) if source.made_split else None
                    content.images = choose_images(listed, chosen, content.folder, source.path, faults)
                elif part == "categories" and content.categories is None:
                    content.categories = read_categories(members.items(), source.path)
                elif part == "annotations" and content.images is not None:
                    content.objects = read_objects(members.items(), content.images, masks, source.path, faults)
        if content.images is None or content.objects is not None:
            break
    return content


def _chosen(names: dict[Id, str], classes: Sequence[str], path: Path) -> list[Id]:
    by_name = {name: key for key, name in names.items()}
    for name in classes:
        if name not in by_name:
            raise InputError(f"{path}: no category {name!r}{did_you_mean(name, by_name)}")
    return [by_name[name] for name in classes]


def _assemble(
    images: CocoImages,
    objects: CocoObjects,
    names: dict[Id, str],
    chosen: list[Id],
    masks: bool,
    path: Path,
    faults: list[Fault],
) -> Annotations:
    """Objects that can be used, sorted by image."""
    labels = {key: label for label, key in enumerate(chosen)}
    meanings = [labels.get(key, _NOT_CHOSEN if key in names else _UNKNOWN) for key in objects.category_ids]
    label = np.array(meanings, np.int64)[np.array(objects.categories)]
    place, sizes = np.array(objects.images), np.array(images.sizes, np.int64).reshape(-1, 2)
    boxes = np.array(objects.boxes).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        boxes[:, 2:] += boxes[:, :2]
    width, height = sizes[place, 1], sizes[place, 0]
    usable = _find_faults(images, objects, label, boxes, (height, width), path, faults)
    if masks and len(usable) and not usable.any() and len(objects.unusable) == len(usable):
        raise InputError(f"{path}: no object has a mask that can be used; the first: {objects.unusable[0]}")
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(place[rows], kind="stable")]
    boxes = boxes[rows]
    areas = np.array(objects.areas)[rows]
    boxes[:, :2] = np.maximum(boxes[:, :2], 0)
    boxes[:, 2:] = np.minimum(boxes[:, 2:], np.stack((width, height), 1)[rows])
    stated = np.isfinite(areas) & (areas >= 0)
    areas = np.where(stated, areas, (boxes[:, 2:] - boxes[:, :2]).prod(1))
    ends = np.cumsum(np.bincount(place[rows], minlength=len(sizes)))
    return Annotations(
        np.array(images.names, np.str_),
        _numbered(images.ids, "image", path, faults),
        sizes,
        np.concatenate(([0], ends)),
        Objects(
            boxes,
            label[rows],
            np.array(objects.crowds, np.bool_)[rows],
            areas,
            _in_order(objects, rows) if masks else None,
        ),
        tuple(names[key] for key in chosen),
        tuple(_numbered(chosen, "category", path, faults).tolist()),
    )


def _find_faults(
    images: CocoImages,
    objects: CocoObjects,
    label: NDArray[np.int64],
    boxes: NDArray[np.float64],
    limits: tuple[NDArray[np.int64], NDArray[np.int64]],
    path: Path,
    faults: list[Fault],
) -> NDArray[np.bool_]:
    """Which objects can be used; all are looked at together, and only the faulty ones one by one."""
    height, width = limits
    inside = np.minimum(boxes[:, 2:], np.stack((width, height), 1)) > np.maximum(boxes[:, :2], 0)
    conditions = (inside, boxes[:, 2:] > boxes[:, :2], np.abs(boxes) < 1e9)
    sound = np.asarray(np.concatenate(conditions, 1).all(1))
    sound[list(objects.unusable)] = False
    for row in np.flatnonzero((label == _UNKNOWN) | ((label >= 0) & ~sound)):
        x1, y1, x2, y2 = box = boxes[row].tolist()
        what = "its category_id is not among the categories" if label[row] == _UNKNOWN else None
        what = what or box_fault(box, int(width[row]), int(height[row])) or objects.unusable[int(row)]
        name = images.names[objects.images[row]]
        entry = f"annotations[{objects.entries[row]}]"
        faults.append(Fault(path.name, f"{name}: {what}", "box", entry=entry, box=(x1, y1, x2, y2)))
    usable = (label >= 0) & sound
    beyond = (boxes[:, :2] < -1).any(1) | (boxes[:, 2:] > np.stack((width, height), 1) + 1).any(1)
    for row in np.flatnonzero(usable & beyond):
        x1, y1, x2, y2 = box = boxes[row].tolist()
        what = f"{images.names[objects.images[row]]}: {overhang(box, int(width[row]), int(height[row]))}"
        entry = f"annotations[{objects.entries[row]}]"
        faults.append(Fault(path.name, what, "warning", entry=entry, box=(x1, y1, x2, y2)))
    return usable


def _in_order(objects: CocoObjects, rows: NDArray[np.int64]) -> EncodedMasks:
    """The masks of some rows."""
    ends = np.array(objects.ends)
    first = np.concatenate(([0], np.cumsum(ends[rows + 1] - ends[rows])))
    text = np.empty(int(first[-1]), np.uint8)
    whole = np.frombuffer(objects.text, np.uint8)
    for number, row in enumerate(rows):
        text[first[number] : first[number + 1]] = whole[ends[row] : ends[row + 1]]
    return EncodedMasks(text, first)


def _numbered(ids: Sequence[Id], what: str, path: Path, faults: list[Fault]) -> NDArray[np.int64]:
    """Ids as numbers; where some are text, 1, 2, ... instead of all."""
    if any(isinstance(key, str) for key in ids):
        text = f"some {what} ids are not whole numbers; results will count from 1 in the order of the file"
        faults.append(Fault(path.name, text, "warning"))
        return np.arange(1, len(ids) + 1)
    return np.array(ids, np.int64)
