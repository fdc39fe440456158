"""The layout of YOLO: ``images/``, ``labels/*.txt`` with ``class cx cy width height``, and ``data.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backbones.errors import InputError
from backbones.images import MAX_PIXELS, Size, read_size
from detection.data.annotations import AnnotationBuilder, DetectionData, PictureFiles
from detection.data.faults import Box, Fault, box_fault, clipped, count_of, overhang
from detection.data.segmentations import UnusableMaskError, encode_polygons
from detection.data.yolo_folders import find_yolo, label_path, read_lines

_SLACK = 0.01
"""Parts of a side that an edge may lie outside by rounding."""


@dataclass(frozen=True)
class _Object:
    box: Box
    label: int
    mask: bytes
    mistake: Fault | None = None


def read_yolo(
    root: Path, split: str, classes: Sequence[str] | None = None, *, masks: bool = False
) -> tuple[DetectionData, list[Fault]]:
    """Read one split.

    A line of labels is ``class cx cy width height`` or ``class x1 y1 x2 y2 x3 y3 ...`` (a polygon), in parts of the
    picture's sides. A picture without labels has no objects.

    Args:
        root: the folder that holds ``data.yaml`` or ``classes.txt``.
        split: ``train``, ``val`` or ``test``; a folder without splits is divided into the former two.
        classes: names in the order of the labels; by default all, in the order of their numbers.
        masks: polygons are masks; objects without one are left out.

    Returns:
        The data, and what was left out or is missing.

    Raises:
        InputError: the folder has another layout, there is no such split, or no picture of it has labels.
    """
    files = find_yolo(root, split)
    names = tuple(files.classes.values()) if classes is None else tuple(classes)
    places = {name: label for label, name in enumerate(names)}
    labels = {number: places.get(name) for number, name in files.classes.items()}
    numbers = {name: number for number, name in files.classes.items()}
    unused = max(files.classes) + 1
    builder = AnnotationBuilder(
        names, [numbers.get(name, unused + label) for label, name in enumerate(names)], masks=masks
    )
    faults: list[Fault] = []
    without = []
    for picture in files.pictures:
        size = _size(root, picture, faults)
        if size is None:
            continue
        path = label_path(picture)
        if path.exists():
            _add_objects(builder, root, path, size, labels, masks, faults)
        else:
            without.append(path)
        builder.add_image(_shown(root, picture), len(builder) + 1, size)
    if len(without) == len(builder) > 0:
        raise InputError(f"{root}: no picture of split {split!r} has labels; expected for example {without[0]}")
    if without:
        what = f"no such file; {count_of(len(without), 'picture')} without labels count as without objects"
        faults.append(Fault(_shown(root, without[0]), what, "warning"))
    annotations = builder.build()
    pictures = PictureFiles(root, annotations)
    return DetectionData(f"yolo:{root.name}", annotations, pictures, made_split=files.made_split), faults


def _shown(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _size(root: Path, picture: Path, faults: list[Fault]) -> Size | None:
    """The picture's own size, since labels tell none."""
    try:
        size = read_size(picture)[0]
        if size[0] * size[1] > MAX_PIXELS:
            raise InputError(f"{size[1]} x {size[0]} pixels, more than the {MAX_PIXELS} that are read")
    except InputError as error:
        faults.append(Fault(_shown(root, picture), str(error).removeprefix(f"{picture}: "), "file"))
        return None
    return size


def _add_objects(
    builder: AnnotationBuilder,
    root: Path,
    path: Path,
    size: Size,
    labels: dict[int, int | None],
    masks: bool,
    faults: list[Fault],
) -> None:
    shown = _shown(root, path)
    try:
        lines = read_lines(path)
    except InputError as error:
        faults.append(Fault(shown, str(error).removeprefix(f"{path}: "), "file"))
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        item = _read_line(line.split(), size, labels, masks, builder.classes)
        if isinstance(item, Fault):
            faults.append(replace(item, file=shown, line=number))
        else:
            builder.add_object(item.box, item.label, mask=item.mask)
            if item.mistake is not None:
                faults.append(replace(item.mistake, file=shown, line=number))


def _read_line(
    words: list[str], size: Size, labels: dict[int, int | None], masks: bool, classes: tuple[str, ...]
) -> _Object | Fault:
    """The object of a line, or why it cannot be used (the fault's place is still to be filled in)."""
    try:
        number, *values = (float(word) for word in words)
    except ValueError:
        return Fault("", "not all numbers", "box")
    polygon = len(values) >= 6 and len(values) % 2 == 0
    if not polygon and len(values) != 4:
        expected = "expected class cx cy width height, or class and the points of a polygon"
        return Fault("", f"{len(words)} numbers; {expected}", "box")
    if number not in labels:
        return Fault("", f"class {number:g} is not among 0 to {max(labels)}", "box")
    label = labels[int(number)]
    if label is None:
        return Fault("", f"class {number:g} is not among {', '.join(classes)}", "box")
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values):
        return Fault("", f"{' '.join(words[1:5])} are no parts of the picture's sides (0 to 1)", "box")
    height, width = size
    scaled = [value * side for value, side in zip(values, (width, height) * (len(values) // 2), strict=True)]
    box = _extent(scaled) if polygon else _corners(scaled)
    what = box_fault(box, width, height)
    mask = b""
    if masks and what is None:
        try:
            mask = encode_polygons([scaled] if polygon else [], size)
        except UnusableMaskError as error:
            what = str(error)
    if what is not None:
        return Fault("", f"{classes[label]}: {what}", "box", box=box)
    beyond = overhang(box, width, height)
    mistake = Fault("", f"{classes[label]}: {beyond}", "warning", box=box) if beyond else None
    return _Object(clipped(box, width, height), label, mask, mistake)


def _corners(values: list[float]) -> Box:
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _extent(points: list[float]) -> Box:
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
