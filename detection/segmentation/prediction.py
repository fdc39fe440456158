"""Pictures in, label images and coloured copies out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from backbones.errors import InputError
from backbones.images import Picture, read_image
from backbones.running.atomic_write import write_json
from detection.drawing import save_drawn
from detection.segmentation.drawing import draw_labels, save_labels
from detection.segmentation.maps import SegmentationMap


class SegmentingPredictor(Protocol):
    """A trained segmenter or a runtime."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def predict_each(self, images: Any, batch_size: int = 8) -> Iterator[tuple[int, SegmentationMap]]: ...


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
        save_drawn(output / name, draw_labels(picture, found.labels, segmenter.classes))
        entries[path] = {"file": str(path), "labels": f"labels/{name}", "shares": found.to_json(segmenter.classes)}
        advance()
    listing = [entries[path] for path in files if path in entries]
    write_json(output / "segmentation.json", {"classes": list(segmenter.classes), "pictures": listing})
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
