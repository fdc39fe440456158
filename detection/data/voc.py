"""The layout of PASCAL VOC: ``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/Main/SPLIT.txt``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError
from xml.parsers import expat

import numpy as np

from backbones.errors import InputError
from backbones.images import MAX_PIXELS, Size, read_size
from detection.data.annotations import AnnotationBuilder, DetectionData, PictureFiles
from detection.data.faults import Box, Fault, box_fault, clipped, count_of, overhang
from detection.data.voc_folders import VocFiles, find_voc
from detection.data.voc_masks import FOLDER as MASKS
from detection.data.voc_masks import match_instances, read_instances

_LARGEST_XML = 5_000_000
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _Object:
    """A usable object: its box is half-open and inside the picture."""

    box: Box
    label: int
    difficult: bool
    mistake: Fault | None = None


def read_voc(
    root: Path, split: str, classes: Sequence[str] | None = None, *, masks: bool = False
) -> tuple[DetectionData, list[Fault]]:
    """Read one split.

    VOC's corners are pixels, counted from 1 and inclusive: (xmin, ymin, xmax, ymax) becomes
    (xmin - 1, ymin - 1, xmax, ymax), here and nowhere else. Missing tags ``difficult`` mean 0.

    Args:
        root: the folder that holds ``Annotations``, or XML files in another place (``voc_folders``).
        split: a file of ``ImageSets/Main``, or a folder; without either, ``train`` or ``val`` of a seeded division.
        classes: names in the order of the labels; by default those that occur, sorted
            (VOC's own twenty are in alphabetical order too); of a made split, those of all files.
        masks: read masks of ``SegmentationObject``, too; objects without one are left out, and the split is that of
            ``ImageSets/Segmentation`` if there is one.

    Returns:
        The data, and what was left out or is missing.

    Raises:
        InputError: the folder has another layout, or there is no such split.
    """
    if masks and not (root / MASKS).is_dir():
        raise InputError(f"{root}: masks are asked for, but there is no folder {MASKS}")
    files = find_voc(root, split, masks)
    faults: list[Fault] = []
    parsed = [(stem, tree) for stem in files.stems if (tree := _parse(files, stem, faults)) is not None]
    # The parts of a made split have the classes of the whole, though a rare one may occur in one of them only.
    others = set(files.xml) - set(files.stems) if files.made_split and (classes is None or files.unlabelled) else ()
    rest = [(stem, tree) for stem in others if (tree := _parse(files, stem, [])) is not None]
    if classes is None:
        classes = _classes_in(tree for _, tree in (*parsed, *rest))
    _mention_unlabelled(files, [*parsed, *rest], faults)
    builder = AnnotationBuilder(classes, masks=masks)
    labels = {name: label for label, name in enumerate(classes)}
    for number, (stem, tree) in enumerate(parsed, start=1):
        _add_image(builder, files, stem, tree, number, labels, masks, faults)
    annotations = builder.build()
    pictures = PictureFiles(files.pictures, annotations)
    return DetectionData(f"voc:{root.name}", annotations, pictures, made_split=files.made_split), faults


def _parse(files: VocFiles, stem: str, faults: list[Fault]) -> Element | None:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    path = files.xml_path(stem)
    shown = files.shown(path)
    try:
        if path.stat().st_size > _LARGEST_XML:
            faults.append(Fault(shown, f"larger than {_LARGEST_XML} bytes", "file"))
            return None
        tree: Element = fromstring(path.read_bytes())
        return tree
    except FileNotFoundError:
        faults.append(Fault(shown, "no such file", "file"))
    except ParseError as error:
        faults.append(Fault(shown, f"not XML that is read ({error})", "file", error.position[0]))
    except (DefusedXmlException, ValueError, LookupError, OSError) as error:
        faults.append(Fault(shown, f"not XML that is read ({error})", "file"))
    return None


def _classes_in(trees: Iterable[Element]) -> tuple[str, ...]:
    names = {(item.findtext("name") or "").strip() for tree in trees for item in tree.iterfind("object")}
    return tuple(sorted(names - {""}))


def _mention_unlabelled(files: VocFiles, parsed: Iterable[tuple[str, Element]], faults: list[Fault]) -> None:
    """A warning for pictures without an XML file of their name, unless one of another name tells theirs."""
    told = {files.picture(stem, _filename(tree)) for stem, tree in parsed} if files.unlabelled else set()
    without = [name for name in files.unlabelled if name not in told]
    if without:
        what = f"no XML file; {count_of(len(without), 'picture')} without one will not be used"
        faults.append(Fault(files.shown(files.pictures / without[0]), what, "warning"))


def _filename(tree: Element) -> str:
    return (tree.findtext("filename") or "").strip()


def _add_image(
    builder: AnnotationBuilder,
    files: VocFiles,
    stem: str,
    tree: Element,
    number: int,
    labels: dict[str, int],
    masks: bool,
    faults: list[Fault],
) -> None:
    """One picture and its usable objects; a picture that is missing or has no size is a fault."""
    xml = files.shown(files.xml_path(stem))
    name = files.picture(stem, _filename(tree))
    if name is None:
        faults.append(Fault(xml, f"no picture {files.shown(files.pictures / stem)}.jpg", "file"))
        return
    try:
        size = _size(tree, files.pictures / name)
    except InputError as error:
        faults.append(Fault(name, str(error).removeprefix(f"{files.pictures / name}: "), "file"))
        return
    elements = tree.findall("object")
    read = [_read_object(item, size, labels) for item in elements]
    found: list[bytes | None] = [b""] * len(read)
    if masks and read:
        try:
            found = _masks(files, stem, size, read)
        except InputError as error:
            what = str(error).removeprefix(f"{files.root}/")
            faults.append(Fault(xml, f"masks are asked for, but {what}", "file"))
            return
    own: list[tuple[int, Fault]] = []
    for place, (item, mask) in enumerate(zip(read, found, strict=True)):
        if isinstance(item, Fault):
            own.append((place, replace(item, file=xml)))
        elif mask is None:
            what = f"{builder.classes[item.label]}: no instance of {MASKS}/{stem}.png fits its box"
            own.append((place, Fault(xml, what, "box", box=item.box)))
        else:
            builder.add_object(item.box, item.label, item.difficult, mask=mask)
            if item.mistake is not None:
                own.append((place, replace(item.mistake, file=xml)))
    if own:
        lines = _object_lines(files.xml_path(stem).read_bytes())
        faults += [replace(fault, line=lines[place]) for place, fault in own]
    builder.add_image(name, number, size)


def _size(tree: Element, picture: Path) -> Size:
    """What the file says, or, where it says nothing, what the picture's header says."""
    try:
        size = int(tree.findtext("size/height") or 0), int(tree.findtext("size/width") or 0)
    except ValueError:
        size = (0, 0)
    size = size if min(size) > 0 else read_size(picture)[0]
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{size[1]} x {size[0]} pixels, more than the {MAX_PIXELS} that are read")
    return size


def _read_object(item: Element, size: Size, labels: dict[str, int]) -> _Object | Fault:
    """The object, or why it cannot be used (the fault's place is still to be filled in)."""
    height, width = size
    name = (item.findtext("name") or "").strip()
    if name not in labels:
        return Fault("", f"class {name!r} is not among {', '.join(labels)}", "box")
    corners = item.find("bndbox")
    try:
        x1, y1, x2, y2 = (float(corners.findtext(tag) or "") for tag in _CORNERS)  # type: ignore[union-attr]
    except (ValueError, AttributeError):
        return Fault("", f"a box of {name!r} is not four numbers", "box")
    what = box_fault((x1, y1, x2, y2), width, height)
    if what is not None:
        return Fault("", f"{name}: {what}", "box", box=(x1, y1, x2, y2))
    difficult = (item.findtext("difficult") or "").strip().lower() in ("1", "true")
    beyond = overhang((x1, y1, x2, y2), width, height)
    mistake = Fault("", f"{name}: {beyond}", "warning", box=(x1, y1, x2, y2)) if beyond else None
    return _Object(clipped((x1 - 1, y1 - 1, x2, y2), width, height), labels[name], difficult, mistake)


def _masks(files: VocFiles, stem: str, size: Size, read: list[_Object | Fault]) -> list[bytes | None]:
    """A mask, or None, for each object."""
    boxes = [item.box if isinstance(item, _Object) else (0.0, 0.0, 0.0, 0.0) for item in read]
    instances = read_instances(files.root / MASKS / f"{stem}.png", size)
    return match_instances(instances, np.array(boxes, np.float64))


def _object_lines(content: bytes) -> list[int]:
    """The line of each object of a file that has been read safely."""
    lines: list[int] = []
    depth = 0
    parser = expat.ParserCreate()

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 2 and tag == "object":
            lines.append(parser.CurrentLineNumber)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(content, True)
    return lines
