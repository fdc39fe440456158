"""The three lists of a COCO file, read item by item into flat memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from backbones.errors import InputError
from backbones.images import MAX_PIXELS, Size, read_size
from detection.data.faults import Fault
from detection.data.segmentations import UnusableMaskError, encode_segmentation

Id = int | str
_UNUSED = -1
"""The place of an image that is left out, and its objects with it."""


@dataclass
class CocoImages:
    """Images that are used.

    Attributes:
        names, ids, sizes: of each; sizes are (height, width).
        places: by id, the row of every image of the file, or -1 for those left out.
    """

    names: list[str] = field(default_factory=list)
    ids: list[Id] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    places: dict[Id, int] = field(default_factory=dict)


@dataclass
class CocoObjects:
    """Annotations of the images that are used, in the order of the file.

    Attributes:
        images: rows of ``CocoImages``.
        categories: rows of ``category_ids``, the ids that occur.
        boxes: (x, y, width, height), flat.
        areas: as the file says; not a number where it says nothing.
        crowds: 1 for a crowd.
        entries: the number of each in the file.
        text, ends: compressed run lengths, if asked for, and where each object's end.
        unusable: by row, why an object has no mask.
    """

    images: array[int] = field(default_factory=lambda: array("q"))
    categories: array[int] = field(default_factory=lambda: array("q"))
    category_ids: dict[Id, int] = field(default_factory=dict)
    boxes: array[float] = field(default_factory=lambda: array("d"))
    areas: array[float] = field(default_factory=lambda: array("d"))
    crowds: bytearray = field(default_factory=bytearray)
    entries: array[int] = field(default_factory=lambda: array("q"))
    text: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("q", (0,)))
    unusable: dict[int, str] = field(default_factory=dict)


def identifier(value: Any) -> Id:
    """An id in one form: ``"007"`` and ``7.0`` are 7, since tools mix them; others stay text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and len(value) < 19 and value.strip().removeprefix("-").isdecimal():
        value = int(value)
    return value if type(value) is int and abs(value) < 1 << 63 else str(value)


def read_categories(items: Iterator[Any], path: Path) -> dict[Id, str]:
    """Names by id, in the order of the ids.

    Raises:
        InputError: an entry has no id or name, or two have the same.
    """
    names: dict[Id, str] = {}
    for number, item in enumerate(items):
        key, name = _fields(item, ("id", "name"), f"{path}: categories[{number}]")
        key, name = identifier(key), str(name).strip()
        if key in names or name in names.values():
            raise InputError(f"{path}: categories[{number}]: id {key} or name {name!r} occurs twice; give each its own")
        names[key] = name
    return dict(sorted(names.items(), key=lambda pair: (isinstance(pair[0], str), pair[0])))


def list_images(items: Iterator[Any], path: Path) -> list[tuple[Id, str, Any, Any]]:
    """Id, file name, height and width of all.

    Raises:
        InputError: an entry has no id or file name.
    """
    found = []
    for number, item in enumerate(items):
        key, name = _fields(item, ("id", "file_name"), f"{path}: images[{number}]")
        found.append((identifier(key), str(name).replace("\\", "/"), item.get("height"), item.get("width")))
    return found


def choose_images(
    listed: list[tuple[Id, str, Any, Any]], chosen: set[str] | None, folder: Path, path: Path, faults: list[Fault]
) -> CocoImages:
    """Those that are of the split, have a picture and are listed once.

    Args:
        listed: all of the file.
        chosen: names of those of the split; None for all.
        folder: of the pictures.
        path: the file, for faults.
    """
    images = CocoImages()
    there = {file.name for file in folder.iterdir()}
    entries: dict[Id, int] = {}
    by_name: dict[str, int] = {}
    for number, (key, name, height, width) in enumerate(listed):
        entry = f"images[{number}]"
        if key in entries:
            faults.append(Fault(path.name, f"id {key} is that of images[{entries[key]}], too", "file", entry=entry))
            continue
        entries[key], images.places[key] = number, _UNUSED
        if chosen is not None and name not in chosen:
            continue
        if name in by_name:
            what = f"{name} is also images[{by_name[name]}]; each has only its own objects"
            faults.append(Fault(path.name, what, "warning", entry=entry))
        by_name[name] = number
        size = _whole_size(height, width)
        fault = _picture_fault(name, folder, there)
        if fault is None and size is None:
            try:
                size = read_size(folder / name)[0]
            except InputError as error:
                fault = str(error).removeprefix(f"{folder / name}: ")
        if fault is None and size is not None and size[0] * size[1] > MAX_PIXELS:
            fault = f"{size[1]} x {size[0]} pixels, more than the {MAX_PIXELS} that are read"
        if fault is not None or size is None:
            faults.append(Fault(path.name, f"{name}: {fault}", "file", entry=entry))
            continue
        images.places[key] = len(images.names)
        images.names.append(name)
        images.ids.append(key)
        images.sizes.append(size)
    return images


def read_objects(items: Iterator[Any], images: CocoImages, masks: bool, path: Path, faults: list[Fault]) -> CocoObjects:
    """All annotations of the images that are used.

    Args:
        items: of the file's list.
        images: to find owners and sizes.
        masks: encode masks, too.
        path: the file, for faults.

    Raises:
        InputError: an entry has no image_id, category_id or bbox.
    """
    objects, places = CocoObjects(), images.places
    numbers = objects.category_ids
    for number, item in enumerate(items):
        try:
            image, category, box = item["image_id"], item["category_id"], item["bbox"]
        except (KeyError, TypeError, IndexError):
            _fields(item, ("image_id", "category_id", "bbox"), f"{path}: annotations[{number}]")
            raise
        place = places.get(image if type(image) is int else identifier(image))
        if place is None:
            what = f"unknown image {image}"
            faults.append(Fault(path.name, what, "box", entry=f"annotations[{number}]"))
            continue
        if place == _UNUSED:
            continue
        try:
            x, y, width, height = map(float, box)
            area = item.get("area")
            area = float("nan") if area is None else float(area)
        except (TypeError, ValueError, OverflowError):
            what = f"{images.names[place]}: bbox is not four numbers"
            faults.append(Fault(path.name, what, "box", entry=f"annotations[{number}]"))
            continue
        if masks:
            try:
                objects.text += encode_segmentation(item.get("segmentation"), images.sizes[place])
            except UnusableMaskError as error:
                objects.unusable[len(objects.entries)] = str(error)
            objects.ends.append(len(objects.text))
        key = category if type(category) is int else identifier(category)
        objects.categories.append(numbers.setdefault(key, len(numbers)))
        objects.images.append(place)
        objects.boxes.extend((x, y, width, height))
        objects.areas.append(area)
        objects.crowds.append(item.get("iscrowd") in (1, "1"))
        objects.entries.append(number)
    return objects


def _fields(item: Any, names: tuple[str, ...], place: str) -> tuple[Any, ...]:
    if not isinstance(item, dict):
        raise InputError(f"{place} is no object with {', '.join(names)}")
    absent = [name for name in names if name not in item]
    if absent:
        raise InputError(f"{place} has no {', '.join(absent)}")
    return tuple(item[name] for name in names)


def _whole_size(height: Any, width: Any) -> Size | None:
    """What the file says, or None where that is no size: many tools write none, or 0."""
    try:
        size = int(height), int(width)
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def _picture_fault(name: str, folder: Path, there: set[str]) -> str | None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        return f"the name leads out of {folder.name}; name pictures from there"
    if name not in there and not (len(parts) > 1 and (folder / name).is_file()):
        return f"no such picture in {folder.name}"
    return None
