"""VOC's label images: ``SegmentationClass/*.png``, ``JPEGImages/``, ``ImageSets/Segmentation/SPLIT.txt``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.data.splits import seeded_split
from backbones.errors import InputError
from backbones.images import SUFFIXES, Labels, read_labels, read_size
from detection.data.annotations import AnnotationBuilder, DetectionData, PictureFiles
from detection.data.faults import Fault
from detection.data.named import VOC_CLASSES
from detection.data.voc_folders import PICTURES, by_stem, read_list
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.settings import BACKGROUND, IGNORED, MOST_CLASSES

FOLDER = "SegmentationClass"
NAMES_FILE = "classes.txt"
VOC_LABELS = (BACKGROUND, *VOC_CLASSES)
"""The classes of VOC's own label images, by label."""


class LabelFiles:
    """Label images that are read from files when they are asked for.

    Args:
        folder: where they lie.
        stems: their names without the ending, by image.
        table: [256] uint8, the label that each stored number stands for.
    """

    def __init__(self, folder: Path, stems: Sequence[str], table: NDArray[np.uint8]) -> None:
        self.folder, self.table = folder, table
        self.stems = np.array(stems, np.str_)

    def __getitem__(self, image: int) -> Labels:
        return self.table[read_labels(self.folder / f"{self.stems[image]}.png")]


def read_label_images(
    root: Path, split: str, classes: Sequence[str] | None = None
) -> tuple[SegmentationData, list[Fault]]:
    """Read one split. Every label image is decoded once, so that faults are found before training.

    The names of the classes are the lines of ``classes.txt`` in the folder, the background first; without that file
    they are VOC's.

    Args:
        root: the folder that holds ``SegmentationClass``.
        split: a file of ``ImageSets/Segmentation``; without that folder, ``train`` or ``val`` of a seeded division.
        classes: names in the order of the labels, if it shall be another.

    Returns:
        The data, and the files that cannot be used.

    Raises:
        InputError: the folder has another layout, there is no such split, or it has classes that are not among
            ``classes``.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise InputError(f"{root}: there are no label images (no folder {FOLDER})")
    names = _class_names(root)
    pictures = next((root / name for name in PICTURES if (root / name).is_dir()), root / PICTURES[0])
    if not pictures.is_dir():
        raise InputError(f"{root}: there are no pictures (no folder {PICTURES[0]})")
    there = by_stem(pictures, SUFFIXES)
    label_files = by_stem(folder, (".png",))
    lists = root / "ImageSets" / "Segmentation"
    made = not lists.is_dir()
    chosen = seeded_split(list(label_files), split) if made else read_list(lists, split, label_files)
    builder = AnnotationBuilder(names[1:])
    stems, faults = [], []
    found = np.zeros(256, bool)
    for number, stem in enumerate(chosen, start=1):
        try:
            labels = _checked(folder / f"{stem}.png", pictures, there.get(stem), len(names))
        except InputError as error:
            faults.append(Fault(f"{FOLDER}/{stem}.png", str(error).removeprefix(f"{folder / stem}.png: "), "file"))
            continue
        found[np.unique(labels)] = True
        stems.append(stem)
        builder.add_image(there[stem], number, (labels.shape[0], labels.shape[1]))
    annotations = builder.build()
    images = DetectionData(f"voc:{root.name}", annotations, PictureFiles(pictures, annotations), made_split=made)
    ordered = names if classes is None else tuple(classes)
    try:
        table = _table(names, ordered, found)
    except InputError as error:
        if (root / NAMES_FILE).exists():
            raise
        raise InputError(f"{error}; without a {NAMES_FILE} in {root} its labels are taken for VOC's") from error
    return SegmentationData(images, LabelFiles(folder, stems, table), ordered), faults


def _class_names(root: Path) -> tuple[str, ...]:
    path = root / NAMES_FILE
    if not path.exists():
        return VOC_LABELS
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file") from error
    if not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
        raise InputError(f"{path}: needs 2 to {MOST_CLASSES} different names, a line each, the background first")
    return names


def _checked(path: Path, pictures: Path, picture: str | None, classes: int) -> Labels:
    """A label image that fits its picture.

    Raises:
        InputError: it cannot be read, has no picture or one of another size, or labels that name no class.
    """
    labels = read_labels(path)
    if picture is None:
        raise InputError(f"{path}: no picture {pictures.name}/{path.stem}.jpg")
    if labels.shape not in (sizes := read_size(pictures / picture)):
        shown, own = (f"{width} x {height}" for height, width in (sizes[0], labels.shape))
        raise InputError(f"{path}: {own} pixels, but its picture has {shown}")
    strange = sorted(set(np.unique(labels).tolist()) - {*range(classes), IGNORED})
    if strange:
        raise InputError(
            f"{path}: label {strange[0]} names no class (there are {classes}, and {IGNORED} for what is ignored; "
            f"{NAMES_FILE} beside {FOLDER} names others)"
        )
    return labels


def _table(names: Sequence[str], ordered: Sequence[str], found: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """[256]: stored label -> label in another order of the names."""
    places = {name: label for label, name in enumerate(ordered)}
    unknown = [name for label, name in enumerate(names) if found[label] and name not in places]
    if unknown:
        known = ", ".join(ordered)
        raise InputError(
            f"the data has classes that the model does not know: {', '.join(unknown)} (the model's: {known})"
        )
    table = np.full(256, IGNORED, np.uint8)
    table[: len(names)] = [places.get(name, IGNORED) for name in names]
    return table
