"""The digit scenes as files: COCO and VOC layouts with masks, and YOLO layout."""

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

_LABEL_PICTURES = ("SegmentationObject", "SegmentationClass")


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
    """``Annotations/*.xml``, ``JPEGImages/*.png`` (lossless), label pictures of instances and classes, their names, and
    lists."""
    lists = ("ImageSets/Main", "ImageSets/Segmentation")
    for folder in ("Annotations", "JPEGImages", *_LABEL_PICTURES, *lists):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_text(root / "classes.txt", "\n".join(("background", *CLASSES)) + "\n")
    for split in SPLITS:
        names = []
        for number, scene in enumerate(_scenes(split, limit), start=1):
            name = f"{split}_{number:06d}"
            Image.fromarray(scene.image).save(root / "JPEGImages" / f"{name}.png")
            write_text(root / "Annotations" / f"{name}.xml", _voc_xml(scene, name))
            for folder, numbers in zip(_LABEL_PICTURES, (np.arange(len(scene.labels)), scene.labels), strict=True):
                labels = (scene.masks * (numbers + 1)[:, None, None]).max(0).astype(np.uint8)
                picture = Image.fromarray(labels)
                picture.putpalette(_voc_palette())
                picture.save(root / folder / f"{name}.png")
            names.append(name)
        for folder in lists:
            write_text(root / folder / f"{split}.txt", "\n".join(names) + "\n")


def _voc_palette() -> bytes:
    """VOC's 256 colours: the bits of a number, dealt to red, green and blue from the highest of each down."""
    numbers = np.arange(256)[:, None]
    channels = np.arange(3)
    colours = sum(((numbers >> (3 * bit + channels)) & 1) << (7 - bit) for bit in range(3))
    return np.asarray(colours, np.uint8).tobytes()


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


def write_yolo(root: Path, limit: int | None = None) -> None:
    """``images/SPLIT/*.png``, ``labels/SPLIT/*.txt`` with normalised boxes, and ``data.yaml``."""
    for split in SPLITS:
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        for number, scene in enumerate(_scenes(split, limit), start=1):
            Image.fromarray(scene.image).save(root / "images" / split / f"{number:06d}.png")
            write_text(root / "labels" / split / f"{number:06d}.txt", "".join(_yolo_lines(scene)))
    splits = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    names = "".join(f"  {label}: {name!r}\n" for label, name in enumerate(CLASSES))
    write_text(root / "data.yaml", f"{splits}names:\n{names}")


def _yolo_lines(scene: Scene) -> Iterator[str]:
    """``class cx cy width height``, in parts of the picture's sides."""
    for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels, strict=True):
        centre_and_size = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        yield f"{label} {' '.join(f'{value / SIZE:.8g}' for value in centre_and_size)}\n"
