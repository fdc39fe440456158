"""The layout of COCO: ``annotations/instances_SPLIT.json`` and a folder of images."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.errors import InputError, did_you_mean
from detection.data.annotations import AnnotationBuilder, DetectionData, PictureFiles
from detection.data.faults import Fault, box_fault, clipped
from detection.data.layouts import refused


def read_coco(root: Path, split: str, classes: Sequence[str] | None = None) -> tuple[DetectionData, list[Fault]]:
    """Read one split.

    Category ids may be any integers; labels are their ranks. Boxes (x, y, width, height) become corners.

    Args:
        root: the folder that holds ``annotations``.
        split: ``val2017``, or a beginning that fits one file only.
        classes: a subset of the file's categories, in the order that labels shall have; by default all.

    Returns:
        The data, and what was left out or is missing.

    Raises:
        InputError: the folder has another layout, there is no such split, or the JSON is no COCO file.
    """
    path = _annotation_file(root, split)
    content = _load(path)
    images = _image_folder(root, path.stem.removeprefix("instances_"))
    categories = sorted(content["categories"], key=lambda category: int(category["id"]))
    if classes is not None:
        categories = _chosen(categories, classes, path)
    builder = AnnotationBuilder([str(category["name"]) for category in categories], [c["id"] for c in categories])
    labels = {category["id"]: label for label, category in enumerate(categories)}
    every = {category["id"] for category in content["categories"]}
    faults: list[Fault] = []
    by_image = defaultdict(list)
    known = {image["id"] for image in content["images"]}
    for item in content["annotations"]:
        if item["image_id"] not in known:
            faults.append(
                Fault(path.name, f"annotation {item.get('id')} is of unknown image {item['image_id']}", "box")
            )
        elif item["category_id"] not in every:
            faults.append(Fault(path.name, f"annotation {item.get('id')} has unknown category", "box"))
        elif item["category_id"] in labels:
            by_image[item["image_id"]].append(item)
    there = {file.name for file in images.iterdir()} if images.is_dir() else set()
    for image in content["images"]:
        name = str(image["file_name"])
        if Path(name).name not in there and not (images / name).exists():
            faults.append(Fault(name, f"no such picture in {images.name}", "file"))
            continue
        size = int(image["height"]), int(image["width"])
        for item in by_image[image["id"]]:
            _add_object(builder, item, labels[item["category_id"]], size, name, faults)
        builder.add_image(name, int(image["id"]), size)
    annotations = builder.build()
    return DetectionData(f"coco:{root.name}", annotations, PictureFiles(images, annotations)), faults


def _annotation_file(root: Path, split: str) -> Path:
    folder = root / "annotations"
    if not folder.is_dir():
        raise refused(root, "coco", "annotations")
    there = {path.stem.removeprefix("instances_"): path for path in sorted(folder.glob("*.json"))}
    fitting = [name for name in there if name == split] or [name for name in there if name.startswith(split)]
    if len(fitting) != 1:
        listing = ", ".join(there) or "none"
        raise InputError(f"{folder}: no split {split!r}{did_you_mean(split, there)}; there are {listing}")
    return there[fitting[0]]


def _image_folder(root: Path, split: str) -> Path:
    choices = [root / split, root / "images" / split, root / "images"]
    return next((folder for folder in choices if folder.is_dir()), choices[0])


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise InputError(f"{path}: not a COCO file (it needs the lists {', '.join(parts)})")
    wanted = {"images": ("id", "file_name", "height", "width"), "annotations": ("image_id", "category_id", "bbox")}
    wanted["categories"] = ("id", "name")
    for part, keys in wanted.items():
        for number, item in enumerate(content[part]):
            absent = [key for key in keys if key not in item]
            if absent:
                raise InputError(f"{path}: {part}[{number}] has no {', '.join(absent)}")
    return content


def _chosen(categories: list[dict[str, Any]], classes: Sequence[str], path: Path) -> list[dict[str, Any]]:
    by_name = {str(category["name"]): category for category in categories}
    for name in classes:
        if name not in by_name:
            raise InputError(f"{path}: no category {name!r}{did_you_mean(name, by_name)}")
    return [by_name[name] for name in classes]


def _add_object(
    builder: AnnotationBuilder,
    item: dict[str, Any],
    label: int,
    size: tuple[int, int],
    name: str,
    faults: list[Fault],
) -> None:
    height, width = size
    try:
        x, y, w, h = (float(value) for value in item["bbox"])
        area = float(item["area"]) if "area" in item else None
    except (TypeError, ValueError):
        faults.append(Fault(name, f"annotation {item.get('id')}: bbox is not four numbers", "box"))
        return
    what = box_fault((x, y, x + w, y + h), width, height)
    if what is not None:
        faults.append(Fault(name, f"annotation {item.get('id')}: {what}", "box"))
        return
    box = clipped((x, y, x + w, y + h), width, height)
    builder.add_object(box, label, bool(item.get("iscrowd", 0)), area)
