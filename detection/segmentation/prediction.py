"""Pictures in, label images and coloured copies out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from backbones.errors import InputError
from backbones.images import Labels, Picture, read_image
from backbones.running.atomic_write import atomic_path, write_json
from detection.segmentation.drawing import draw_labels, save_labels
from detection.segmentation.maps import SegmentationMap

LISTING = "segmentation.json"


class SegmentingPredictor(Protocol):
    """A trained segmenter or a runtime."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def predict_each(self, images: Any, batch_size: int = 8) -> Iterator[tuple[int, SegmentationMap]]: ...


def result_names(files: Mapping[Path, Path]) -> list[str]:
    """What ``predict_segmentation_files`` writes, relative to its folder."""
    return [LISTING, *(f"{folder}{stem}.png" for stem in files.values() for folder in ("", "labels/"))]


def predict_segmentation_files(
    segmenter: SegmentingPredictor,
    files: Mapping[Path, Path],
    output: Path,
    batch_size: int = 8,
    advance: Callable[[], None] = lambda: None,
) -> list[InputError]:
    """Label the pixels of files.

    Writes for each a label image with VOC's palette, ``labels/NAME.png``, and a coloured copy, ``NAME.png``; and
    ``segmentation.json`` with the share of the pixels that each class has.

    Args:
        segmenter: any.
        files: pictures, and what their results are called: a path without ending, relative to ``output``.
        output: the folder to write to.
        batch_size: pictures at once.
        advance: called after each picture.

    Returns:
        Why pictures could not be read; the others are done.
    """
    faulty: list[InputError] = []
    waiting: dict[int, tuple[Path, Picture]] = {}
    entries: dict[Path, dict[str, Any]] = {}
    for place, found in segmenter.predict_each(_readable(files, waiting, faulty), batch_size):
        path, picture = waiting.pop(place)
        name = files[path].with_name(f"{files[path].name}.png")
        save_labels(output / "labels" / name, found.labels)
        with atomic_path(output / name) as partial:
            Image.fromarray(draw_labels(picture, found.labels, segmenter.classes)).save(partial, format="PNG")
        entries[path] = {"file": str(path), "labels": f"labels/{name}", "shares": _shares(found, segmenter.classes)}
        advance()
    listing = [entries[path] for path in files if path in entries]
    write_json(output / LISTING, {"classes": list(segmenter.classes), "pictures": listing})
    return faulty


def _readable(
    files: Mapping[Path, Path], waiting: dict[int, tuple[Path, Picture]], faulty: list[InputError]
) -> Iterator[Picture]:
    """The pictures that can be read; each is remembered under its place until it has been drawn on."""
    place = 0
    for path in files:
        try:
            picture = read_image(path)
        except InputError as error:
            faulty.append(error)
            continue
        waiting[place] = (path, picture)
        place += 1
        yield picture


def _shares(found: SegmentationMap, classes: Sequence[str]) -> dict[str, float]:
    """The part of the picture that each class covers, of those that are in it."""
    labels: Labels = found.labels
    counts = np.bincount(labels.reshape(-1), minlength=len(classes))
    return {name: round(int(count) / labels.size, 6) for name, count in zip(classes, counts, strict=True) if count}
