"""The digit scenes as files: COCO layout with masks, and VOC layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from PIL import Image

from backbones.data.digits import CLASSES, SPLITS
from backbones.running.atomic_write import write_json, write_text
from detection.data.digits import SCENES, SIZE, Scene, compose_scene


def write_coco(root: Path, limit: int | None = None) -> None:
    """``annotations/instances_SPLIT.json`` with run-length masks, and ``SPLIT/*.png``. Category ids start at 1."""
    for split in SPLITS:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        folder = root / split
        folder.mkdir(parents=True, exist_ok=True)
        for number, scene in enumerate(_scenes(split, limit), start=1):
            name = f"{number:06d}.png"
            Image.fromarray(scene.image).save(folder / name)
            images.append({"id": number, "file_name": name, "height": SIZE, "width": SIZE})
            annotations += _coco_objects(scene, number, len(annotations))
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_json(root / "annotations" / f"instances_{split}.json", content)


def _scenes(split: str, limit: int | None) -> Iterator[Scene]:
    count = SCENES[split] if limit is None else min(limit, SCENES[split])
    return (compose_scene(split, number) for number in range(count))


def _coco_objects(scene: Scene, image: int, written: int) -> list[dict[str, Any]]:
    from pycocotools import mask as rle

    items = []
    for place, (box, label, mask) in enumerate(zip(scene.boxes.tolist(), scene.labels, scene.masks, strict=True)):
        encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        x1, y1, x2, y2 = box
        items.append(
            {
                "id": written + place + 1,
                "image_id": image,
                "category_id": int(label) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
            }
        )
    return items


def write_voc(root: Path, limit: int | None = None) -> None:
    """``Annotations/*.xml``, ``JPEGImages/*.png`` (lossless) and ``ImageSets/Main/SPLIT.txt``."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        names = []
        for number, scene in enumerate(_scenes(split, limit), start=1):
            name = f"{split}_{number:06d}"
            Image.fromarray(scene.image).save(root / "JPEGImages" / f"{name}.png")
            write_text(root / "Annotations" / f"{name}.xml", _voc_xml(scene, name))
            names.append(name)
        write_text(root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(names) + "\n")


def _voc_xml(scene: Scene, name: str) -> str:
    """Corners count from 1 and are inclusive, as VOC's do."""
    tree = Element("annotation")
    SubElement(tree, "filename").text = f"{name}.png"
    size = SubElement(tree, "size")
    for tag, value in (("width", SIZE), ("height", SIZE), ("depth", 3)):
        SubElement(size, tag).text = str(value)
    for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels, strict=True):
        item = SubElement(tree, "object")
        SubElement(item, "name").text = CLASSES[label]
        SubElement(item, "difficult").text = "0"
        box = SubElement(item, "bndbox")
        for tag, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            SubElement(box, tag).text = str(value)
    indent(tree)
    return tostring(tree, encoding="unicode") + "\n"
