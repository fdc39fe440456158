"""Labelled pixels as files: label images, and a listing of what covers how much, written as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from backbones.images import Picture, resize, resize_nearest
from detection.prediction.copies import copy_name
from detection.prediction.listings import JsonItems, Listing, View, growing_text
from detection.prediction.sources import Source
from detection.segmentation.drawing import draw_labels, save_labels
from detection.segmentation.maps import SegmentationMap

LISTING = "segmentation.json"


def draw_map(picture: Picture, found: SegmentationMap, classes: Sequence[str], enlarge: int = 1) -> Picture:
    """A copy of the picture, so many times larger, with its pixels in their classes' colours."""
    size = (picture.shape[0] * enlarge, picture.shape[1] * enlarge)
    return draw_labels(resize(picture, size), resize_nearest(found.labels, size), classes)


def result_names(saved: Sequence[str], format: str, sources: Sequence[Source]) -> list[str]:
    """All that is written, relative to the folder; with a slash at the end what is a folder as a whole."""
    names = [LISTING] if "json" in saved else []
    for source in sources:
        names += [copy_name(source, format)] if "pictures" in saved else []
        names += [f"labels/{source.stem}{'.frames/' if source.is_video else '.png'}"] if "labels" in saved else []
    return names


@contextmanager
def open_pixel_listings(kinds: Sequence[str], folder: Path, classes: Sequence[str]) -> Iterator[list[Listing]]:
    """What ``json`` and ``labels`` among the kinds stand for; the listing is absent if the block fails."""
    labels = [_LabelImages(folder)] if "labels" in kinds else []
    if "json" not in kinds:
        yield [*labels]
        return
    with growing_text(folder / LISTING) as stream:
        shares = _Shares(stream, classes, bool(labels))
        yield [*labels, shares]
        shares.finish()


def label_path(view: View) -> Path:
    """``labels/NAME.png``, and of a video's frame ``labels/NAME.frames/000012.png``."""
    stem = view.source.stem
    if view.frame is not None:
        stem = stem.with_name(f"{stem.name}.frames") / f"{view.frame:06}"
    return Path("labels") / stem.with_name(f"{stem.name}.png")


class _LabelImages:
    """PNG files whose pixels are the labels, with VOC's palette."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, view: View, found: SegmentationMap) -> None:
        save_labels(self._folder / label_path(view), found.labels)

    def finish(self) -> None:
        pass


class _Shares:
    """``{"classes": [...], "pictures": [{"file", "height", "width", "labels", "shares": {name: part}}, ...]}``."""

    def __init__(self, stream: TextIO, classes: Sequence[str], labels: bool) -> None:
        self._classes, self._labels = classes, labels
        self._items = JsonItems(stream, f'{{"classes": {json.dumps(list(classes))},\n"pictures": [', "]}")

    def add(self, view: View, found: SegmentationMap) -> None:
        height, width = view.size
        place = {"file": str(view.source.path), **view.moment, "height": height, "width": width}
        image = {"labels": label_path(view).as_posix()} if self._labels else {}
        self._items.add({**place, **image, "shares": found.to_json(self._classes)})

    def finish(self) -> None:
        self._items.finish()
