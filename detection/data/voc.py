"""The layout of PASCAL VOC: ``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/Main/SPLIT.txt``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from backbones.data.splits import seeded_split
from backbones.errors import InputError, did_you_mean
from backbones.images import SUFFIXES, Size, read_size
from detection.data.annotations import AnnotationBuilder, DetectionData, PictureFiles
from detection.data.faults import Fault, box_fault, clipped
from detection.data.layouts import refused

_LARGEST_XML = 5_000_000


def read_voc(root: Path, split: str, classes: Sequence[str] | None = None) -> tuple[DetectionData, list[Fault]]:
    """Read one split.

    VOC's corners are pixels, counted from 1 and inclusive: (xmin, ymin, xmax, ymax) becomes
    (xmin - 1, ymin - 1, xmax, ymax), here and nowhere else. Missing tags ``difficult`` mean 0.

    Args:
        root: the folder that holds ``Annotations``.
        split: a file of ``ImageSets/Main``; without that folder, ``train`` or ``val`` of a seeded division.
        classes: names in the order of the labels; by default those that occur, sorted
            (VOC's own twenty are in alphabetical order too).

    Returns:
        The data, and what was left out or is missing.

    Raises:
        InputError: the folder has another layout, or there is no such split.
    """
    folder = root / "Annotations"
    if not folder.is_dir():
        raise refused(root, "voc", "Annotations")
    stems = _split_stems(root, split)
    faults: list[Fault] = []
    parsed = [(stem, tree) for stem in stems if (tree := _parse(folder / f"{stem}.xml", faults)) is not None]
    if classes is None:
        classes = _classes_in(tree for _, tree in parsed)
    images = _image_files(root)
    builder = AnnotationBuilder(classes)
    for number, (stem, tree) in enumerate(parsed, start=1):
        xml = f"Annotations/{stem}.xml"
        name = images.get(stem)
        if name is None:
            faults.append(Fault(xml, f"no picture JPEGImages/{stem}.jpg", "file"))
            continue
        size = _size(tree, root / "JPEGImages" / name)
        for item in tree.findall("object"):
            _add_object(builder, item, size, xml, faults)
        builder.add_image(name, number, size)
    annotations = builder.build()
    pictures = PictureFiles(root / "JPEGImages", annotations)
    return DetectionData(f"voc:{root.name}", annotations, pictures), faults


def _split_stems(root: Path, split: str) -> list[str]:
    lists = root / "ImageSets" / "Main"
    if not lists.is_dir():
        stems = sorted(path.stem for path in (root / "Annotations").glob("*.xml"))
        return seeded_split(stems, split)
    path = lists / f"{split}.txt"
    if not path.exists():
        there = sorted(item.stem for item in lists.glob("*.txt"))
        raise InputError(f"{path}: no such split{did_you_mean(split, there)}; there are {', '.join(there)}")
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _image_files(root: Path) -> dict[str, str]:
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise refused(root, "voc", "JPEGImages")
    return {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _parse(path: Path, faults: list[Fault]) -> Element | None:
    shown = f"Annotations/{path.name}"
    try:
        if path.stat().st_size > _LARGEST_XML:
            faults.append(Fault(shown, f"larger than {_LARGEST_XML} bytes", "file"))
            return None
        tree: Element = fromstring(path.read_bytes())
        return tree
    except FileNotFoundError:
        faults.append(Fault(shown, "no such file", "file"))
    except (ParseError, DefusedXmlException, ValueError) as error:
        faults.append(Fault(shown, f"not XML that is read ({error})", "file"))
    return None


def _classes_in(trees: Any) -> tuple[str, ...]:
    names = {(item.findtext("name") or "").strip() for tree in trees for item in tree.findall("object")}
    return tuple(sorted(names - {""}))


def _size(tree: Element, picture: Path) -> Size:
    """What the file says, or, where it says nothing, what the picture's header says."""
    try:
        size = int(tree.findtext("size/height") or 0), int(tree.findtext("size/width") or 0)
    except ValueError:
        size = (0, 0)
    return size if min(size) > 0 else read_size(picture)[0]


def _add_object(builder: AnnotationBuilder, item: Element, size: Size, xml: str, faults: list[Fault]) -> None:
    height, width = size
    name = (item.findtext("name") or "").strip()
    if name not in builder.classes:
        faults.append(Fault(xml, f"class {name!r} is not among {', '.join(builder.classes)}", "box"))
        return
    try:
        x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{tag}") or "") for tag in ("xmin", "ymin", "xmax", "ymax"))
        difficult = int(item.findtext("difficult") or 0) == 1
    except ValueError:
        faults.append(Fault(xml, f"a box of {name!r} is not four numbers", "box"))
        return
    what = box_fault((x1, y1, x2, y2), width, height)
    if what is not None:
        faults.append(Fault(xml, f"{name}: {what}", "box"))
        return
    builder.add_object(clipped((x1 - 1, y1 - 1, x2, y2), width, height), builder.classes.index(name), difficult)
