"""The data check: what a data set holds, which pictures cannot be read, and what is likely a mistake."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.images import read_size
from detection.data.annotations import Annotations, DetectionData, PictureFiles, size_fault
from detection.data.faults import Box, Fault, count_of

_LEAST_OVERLAP = 0.5
"""At less, a box (IoU) does not belong to its mask."""
_LARGE = 8
"""Of smaller boxes, in pixels, rounding alone may change so much."""
_MOST_THREADS = 8
_RARE = 0.05
"""A class with such a part of another's objects may be the other, misspelt."""
_SHORTEST_NAME = 3


def describe(annotations: Annotations) -> list[str]:
    """Counts, a line each."""
    objects = annotations.objects
    per_image = np.diff(annotations.first)
    lines = [
        f"images            {len(annotations)}, {int((per_image == 0).sum())} of them without objects",
        f"objects           {len(objects.labels)}, {int(objects.ignored.sum())} of them crowds or difficult",
    ]
    if objects.masks is not None:
        lines.append(f"masks             {len(objects.masks)}, {len(objects.masks.text) / 1e6:.1f} MB")
    if len(annotations):
        (least_h, least_w), (most_h, most_w) = annotations.sizes.min(0), annotations.sizes.max(0)
        lines.append(f"picture sizes     {least_w} x {least_h} to {most_w} x {most_h}")
        lines.append(f"objects an image  {np.median(per_image):.0f} in the median, {per_image.max()} at most")
    if len(objects.labels):
        sides = np.sqrt((objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(1))
        low, middle, high = np.percentile(sides, (5, 50, 95))
        lines.append(f"object sizes      {middle:.0f} pixels in the median, {low:.0f} to {high:.0f} for nine of ten")
    return lines


def describe_classes(splits: Mapping[str, Annotations]) -> list[str]:
    """Objects of each class, a line for a class and a column for a split."""
    counts: dict[str, dict[str, int]] = {}
    for split, found in splits.items():
        of_label = np.bincount(found.objects.labels, minlength=len(found.classes)).tolist()
        for name, count in zip(found.classes, of_label, strict=True):
            counts.setdefault(name, {})[split] = count
    rows = [
        ("objects of", splits),
        *((name, [str(row.get(split, 0)) for split in splits]) for name, row in counts.items()),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}" + "".join(f"  {cell:>10}" for cell in cells) for name, cells in rows]


def check_pictures(
    data: DetectionData,
    decode: bool = True,
    advance: Callable[[], object] = lambda: None,
    images: Sequence[int] | None = None,
) -> list[Fault]:
    """Pictures that cannot be read, or have another size than annotated.

    Args:
        data: a split.
        decode: read all of each picture, which finds truncated ones; otherwise its header.
        advance: called after each picture.
        images: the places of those to look at; by default all.
    """
    pictures = data.pictures
    if not decode and not isinstance(pictures, PictureFiles):
        return []

    def fault_of(image: int) -> Fault | None:
        name = str(data.annotations.names[image])
        try:
            if decode:
                pictures[image]
            elif isinstance(pictures, PictureFiles):
                _check_header(pictures.path(image), data.annotations.size(image))
        except InputError as error:
            return Fault(name, str(error).split(f"{name}: ", 1)[-1], "file")
        return None

    faults = []
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for fault in pool.map(fault_of, range(len(data)) if images is None else images):
            advance()
            if fault is not None:
                faults.append(fault)
    return faults


def _check_header(path: Path, stated: tuple[int, int]) -> None:
    shown, stored = read_size(path)
    if stated not in (shown, stored):
        raise InputError(f"{path}: {size_fault(shown, stated)}")


def likely_mistakes(data: DetectionData) -> list[Fault]:
    """Boxes that occur twice, are thinner than a pixel, or do not fit their masks; classes that differ by case only."""
    annotations = data.annotations
    faults = [
        Fault(data.name, f"classes {first!r} and {second!r} differ by case only", "warning")
        for first, second in _same_but_case(annotations.classes)
    ]
    for image in range(len(annotations)):
        objects = annotations.of(image)
        name = str(annotations.names[image])
        seen: set[tuple[int, Box]] = set()
        for number, (edges, label) in enumerate(zip(objects.boxes.tolist(), objects.labels.tolist(), strict=True)):
            x1, y1, x2, y2 = box = tuple(edges)
            shown = f"{annotations.classes[label]}: box ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
            what = ""
            if (label, box) in seen:
                what = "occurs more than once"
            elif min(x2 - x1, y2 - y1) < 1:
                what = "is thinner than a pixel"
            elif objects.masks is not None and min(x2 - x1, y2 - y1) >= _LARGE:
                overlap = _overlap(np.array(box), objects.masks.extent(number, annotations.size(image)))
                what = f"overlaps its mask's extent by {overlap:.2f} only (IoU)" if overlap < _LEAST_OVERLAP else ""
            seen.add((label, box))
            if what:
                faults.append(Fault(name, f"{shown} {what}", "warning", box=box))
    return faults


def misspelt_classes(splits: Mapping[str, Annotations]) -> list[Fault]:
    """Rare classes whose name is a frequent one's with two neighbours swapped, or with a letter more or less.

    Another letter in place of one (RBC and WBC, cat and car) is no sign of a mistake.
    """
    counts: dict[str, int] = defaultdict(int)
    seen: dict[str, str] = {}
    for found in splits.values():
        of_label = np.bincount(found.objects.labels, minlength=len(found.classes)).tolist()
        for label, (name, count) in enumerate(zip(found.classes, of_label, strict=True)):
            counts[name] += count
            if count and name not in seen:
                row = int(np.flatnonzero(found.objects.labels == label)[0])
                seen[name] = str(found.names[np.searchsorted(found.first, row, "right") - 1])
    return [
        Fault(
            seen[rare],
            f"class {rare!r} has {count_of(counts[rare], 'object')} in all; misspelt for {name!r}?",
            "warning",
        )
        for rare in seen
        for name in counts
        if counts[rare] <= _RARE * counts[name] and _one_slip_apart(rare, name)
    ]


def _one_slip_apart(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    if len(short) < _SHORTEST_NAME:
        return False
    places = range(len(long))
    if len(short) == len(long):
        return any(a[:at] + a[at : at + 2][::-1] + a[at + 2 :] == b for at in places) and a != b
    return any(long[at].isalpha() and long[:at] + long[at + 1 :] == short for at in places)


def _same_but_case(classes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for name in classes:
        folded = " ".join(name.replace("_", " ").split()).casefold()
        if folded in first:
            yield first[folded], name
        first.setdefault(folded, name)


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    common = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common))


def repeated_pictures(splits: Mapping[str, DetectionData]) -> list[Fault]:
    """Pictures of the same content, byte for byte; what is in two splits makes the score of one of them worthless.

    Only files of the same length are read.
    """
    by_length: dict[int, list[tuple[str, str, Path]]] = defaultdict(list)
    for split, data in splits.items():
        if isinstance(data.pictures, PictureFiles):
            for image, name in enumerate(data.annotations.names.tolist()):
                path = data.pictures.path(image)
                if path.is_file():
                    by_length[path.stat().st_size].append((split, name, path))
    faults = []
    for group in by_length.values():
        first: dict[bytes, tuple[str, str]] = {}
        for split, name, path in group if len(group) > 1 else ():
            digest = hashlib.sha256(path.read_bytes()).digest()
            other = first.setdefault(digest, (split, name))
            if other != (split, name):
                faults.append(Fault(name, f"in {split} is the same picture as {other[1]} in {other[0]}", "warning"))
    return faults
