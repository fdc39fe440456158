"""Boxes of a whole data set as a few flat arrays, so that memory stays flat however many workers share them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.images import Picture, Size, read_image
from detection.masks.encoded import EncodedMasks


@dataclass(frozen=True)
class Objects:
    """What is annotated in one image; n rows each.

    Attributes:
        boxes: [n, 4] float64, (x1, y1, x2, y2) in pixels, half-open.
        labels: [n] int64.
        ignored: [n] bool: a crowd (COCO) or a difficult object (VOC).
        areas: [n] float64 as the file states them (COCO: of the mask), for size classes.
        masks: n masks at the picture's size, or None where the data has none.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    areas: NDArray[np.float64]
    masks: EncodedMasks | None = None


@dataclass(frozen=True)
class Annotations:
    """N images with M objects in all.

    Attributes:
        names: [N] file names, unicode.
        image_ids: [N] int64, the ids that the annotation file uses.
        sizes: [N, 2] int64, (height, width).
        first: [N + 1] int64: objects of image i are ``first[i]:first[i + 1]``.
        objects: all of them, image after image.
        classes: names in the order of the labels.
        category_ids: the ids that the annotation file uses, by label.
    """

    names: NDArray[np.str_]
    image_ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]
    objects: Objects
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    def of(self, image: int) -> Objects:
        """The objects of one image."""
        start, stop = int(self.first[image]), int(self.first[image + 1])
        whole, rows = self.objects, slice(start, stop)
        masks = None if whole.masks is None else whole.masks.rows(start, stop)
        return Objects(whole.boxes[rows], whole.labels[rows], whole.ignored[rows], whole.areas[rows], masks)

    def size(self, image: int) -> Size:
        """(height, width) of one image."""
        height, width = self.sizes[image]
        return int(height), int(width)

    def relabelled(self, classes: Sequence[str]) -> Annotations:
        """The same objects labelled by another list of class names, as a model orders them.

        Raises:
            InputError: no class of the data is among them, or objects belong to a class that is not.
        """
        if tuple(classes) == self.classes:
            return self
        places = {name: label for label, name in enumerate(classes)}
        counts = np.bincount(self.objects.labels, minlength=len(self.classes))
        unknown = [name for name, count in zip(self.classes, counts, strict=True) if count and name not in places]
        if unknown:
            raise InputError(
                f"the data has classes that the model does not know: {', '.join(unknown)} "
                f"(the model's: {', '.join(classes)})"
            )
        mapping = np.array([places.get(name, -1) for name in self.classes], np.int64)
        ids = dict(zip(self.classes, self.category_ids, strict=True))
        free = max(self.category_ids, default=0) + 1
        category_ids = tuple(ids.get(name, free + label) for label, name in enumerate(classes))
        objects = replace(self.objects, labels=mapping[self.objects.labels])
        return replace(self, objects=objects, classes=tuple(classes), category_ids=category_ids)


class Pictures(Protocol):
    """Images by their place in the annotations."""

    def __getitem__(self, image: int, /) -> Picture: ...


class PictureFiles:
    """Images that are read from files when they are asked for.

    Args:
        root: the folder that file names are relative to.
        annotations: names and sizes.
    """

    def __init__(self, root: Path, annotations: Annotations) -> None:
        self.root = root
        self.annotations = annotations

    def path(self, image: int) -> Path:
        """Where the file lies."""
        return self.root / str(self.annotations.names[image])

    def __getitem__(self, image: int) -> Picture:
        """The picture, oriented as it was when it was annotated.

        Raises:
            InputError: it cannot be read, or has another size than the annotations say.
        """
        size = self.annotations.size(image)
        picture = read_image(self.path(image), stored_size=size)
        if picture.shape[:2] != size:
            raise InputError(f"{self.path(image)}: {size_fault((picture.shape[0], picture.shape[1]), size)}")
        return picture


def size_fault(found: Size, stated: Size) -> str:
    """What is wrong where a picture has another size than its annotations say."""
    turned = " (width and height are swapped)" if found == stated[::-1] else ""
    return f"{found[1]} x {found[0]} pixels, but its annotations say {stated[1]} x {stated[0]}{turned}"


@dataclass(frozen=True)
class DetectionData:
    """A split of a data set.

    Attributes:
        name: for messages and run folders.
        annotations: boxes and classes.
        pictures: the images.
        mirrored: whether a mirrored picture still shows its classes (digits do not).
        made_split: the data had no splits, and this one was made (``write_splits`` writes it down).
    """

    name: str
    annotations: Annotations
    pictures: Pictures
    mirrored: bool = True
    made_split: bool = False

    def __len__(self) -> int:
        return len(self.annotations)


class AnnotationBuilder:
    """Collects images and their objects in flat memory, then makes the arrays.

    Args:
        classes: names in the order of the labels.
        category_ids: the file's ids, by label; 1, 2, ... by default.
        masks: the arrays are to have masks, even if no object has one.
    """

    def __init__(self, classes: Sequence[str], category_ids: Sequence[int] | None = None, masks: bool = False) -> None:
        self.classes = tuple(classes)
        self.category_ids = tuple(category_ids or range(1, len(self.classes) + 1))
        self._names: list[str] = []
        self._ids, self._sizes, self._ends = array("q"), array("q"), array("q", (0,))
        self._boxes, self._labels, self._ignored, self._areas = array("d"), array("q"), bytearray(), array("d")
        self._masks, self._mask_ends, self._with_masks = bytearray(), array("q", (0,)), masks

    def __len__(self) -> int:
        """Images so far."""
        return len(self._names)

    def add_object(
        self, box: Sequence[float], label: int, ignored: bool = False, area: float | None = None, mask: bytes = b""
    ) -> None:
        """An object of the image that ``add_image`` names next; its mask as COCO's compressed ``counts``."""
        x1, y1, x2, y2 = box
        self._boxes.extend((x1, y1, x2, y2))
        self._labels.append(label)
        self._ignored.append(ignored)
        self._areas.append((x2 - x1) * (y2 - y1) if area is None else area)
        self._masks += mask
        self._mask_ends.append(len(self._masks))

    def add_image(self, name: str, image_id: int, size: Size) -> None:
        """An image, owner of all objects added since the last."""
        self._names.append(name)
        self._ids.append(image_id)
        self._sizes.extend(size)
        self._ends.append(len(self._labels))

    def build(self) -> Annotations:
        masks = None
        if self._masks or self._with_masks:
            masks = EncodedMasks(np.array(self._masks, np.uint8), np.array(self._mask_ends))
        return Annotations(
            np.array(self._names, np.str_),
            np.array(self._ids),
            np.array(self._sizes).reshape(-1, 2),
            np.array(self._ends),
            Objects(
                np.array(self._boxes).reshape(-1, 4),
                np.array(self._labels),
                np.array(self._ignored, np.bool_),
                np.array(self._areas),
                masks,
            ),
            self.classes,
            self.category_ids,
        )
