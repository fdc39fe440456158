"""Detections as files: JSON, COCO results, CSV, and YOLO labels, written as they come.

Each file is whole or absent: it grows under another name, and gets its own when the run is over.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from backbones.errors import InputError
from backbones.images import Size
from backbones.running.atomic_write import atomic_path, write_text
from detection.detections import Detections
from detection.metrics.coco import as_coco_results
from detection.prediction.copies import copy_name
from detection.prediction.sources import Source
from detection.settings import DetectorSettings

LISTINGS = ("json", "coco", "csv", "yolo")
_FILES = {
    "json": "detections.json", "coco": "coco_results.json", "images": "coco_images.json", "csv": "detections.csv",
    "classes": "classes.txt",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """A picture, or a frame of a video.

    Attributes:
        source: the file.
        size: (height, width).
        frame, time: number and seconds of a frame, else None.
    """

    source: Source
    size: Size
    frame: int | None = None
    time: float | None = None

    @property
    def moment(self) -> dict[str, Any]:
        """Frame and time as JSON holds them; nothing for a picture."""
        return {} if self.time is None else {"frame": self.frame, "time": round(self.time, 4)}


class Listing(Protocol):
    """A file that lists what is found."""

    def add(self, view: View, found: Any) -> None: ...

    def finish(self) -> None: ...


@dataclass(frozen=True)
class Labelling:
    """What results are written with.

    Attributes:
        classes: names by label.
        category_ids: the training set's ids by label.
        image_ids: COCO's image ids by source, where they are given.
        videos: whether any source is a video.
    """

    classes: Sequence[str]
    category_ids: Sequence[int]
    image_ids: Mapping[Source, int] | None = None
    videos: bool = False

    @classmethod
    def of(
        cls, settings: DetectorSettings, sources: Sequence[Source], image_ids: Mapping[Source, int] | None = None
    ) -> Labelling:
        """Of a model; its category ids are 1, 2, ... where the training set's are not known."""
        ids = settings.category_ids or tuple(range(1, len(settings.classes) + 1))
        return cls(settings.classes, ids, image_ids, any(source.is_video for source in sources))


def result_names(saved: Sequence[str], format: str, sources: Sequence[Source], own_ids: bool) -> list[str]:
    """All that is written, relative to the folder.

    Args:
        saved: ``pictures``, and some of ``LISTINGS``.
        format: of drawn copies.
        sources: that are looked at.
        own_ids: COCO's image ids are given, so that no file says what they mean.
    """
    kinds = {"json", "coco", "csv"} & set(saved)
    kinds |= {"images"} if "coco" in saved and not own_ids else set()
    kinds |= {"classes"} if "yolo" in saved else set()
    names = [name for kind, name in _FILES.items() if kind in kinds]
    for source in sources:
        names += [copy_name(source, format)] if "pictures" in saved else []
        names += [f"labels/{source.stem}{'.frames/' if source.is_video else '.txt'}"] if "yolo" in saved else []
    return names


@contextmanager
def open_listings(kinds: Sequence[str], folder: Path, labelling: Labelling) -> Iterator[list[Listing]]:
    """The listings to add to; complete when the block is left, absent if it fails."""
    with ExitStack() as files:

        def text(name: str) -> TextIO:
            return files.enter_context(growing_text(folder / name))

        listings: list[Listing] = []
        if "json" in kinds:
            listings.append(_Json(text(_FILES["json"]), labelling))
        if "coco" in kinds:
            images = text(_FILES["images"]) if labelling.image_ids is None else None
            listings.append(_Coco(text(_FILES["coco"]), images, labelling))
        if "csv" in kinds:
            listings.append(_Csv(text(_FILES["csv"]), labelling))
        if "yolo" in kinds:
            listings.append(_Yolo(folder, labelling))
        yield listings
        for listing in listings:
            listing.finish()


@contextmanager
def growing_text(path: Path) -> Iterator[TextIO]:
    """A text file to write to, under another name until the block is left."""
    # names of files may be no text; a listing always is
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as f:
        yield f


class JsonItems:
    """A JSON list in a file, an item to a line."""

    def __init__(self, stream: TextIO, head: str, tail: str) -> None:
        self._stream, self._tail, self._begun = stream, tail, False
        stream.write(head)

    def add(self, item: Any) -> None:
        self._stream.write((",\n" if self._begun else "\n") + json.dumps(item))
        self._begun = True

    def finish(self) -> None:
        self._stream.write("\n" + self._tail + "\n")


class _Json:
    """``{"classes": [...], "pictures": [{"file", "height", "width", "detections": [...]}, ...]}``."""

    def __init__(self, stream: TextIO, labelling: Labelling) -> None:
        self._classes = labelling.classes
        self._items = JsonItems(stream, f'{{"classes": {json.dumps(list(self._classes))},\n"pictures": [', "]}")

    def add(self, view: View, found: Detections) -> None:
        height, width = view.size
        place = {"file": str(view.source.path), **view.moment, "height": height, "width": width}
        self._items.add({**place, "detections": found.to_json(self._classes)})

    def finish(self) -> None:
        self._items.finish()


class _Coco:
    """COCO's results list; beside it the images and categories that its ids mean, unless the ids were given."""

    def __init__(self, results: TextIO, images: TextIO | None, labelling: Labelling) -> None:
        self._labelling = labelling
        self._results = JsonItems(results, "[", "]")
        categories = [
            {"id": number, "name": name} for number, name in zip(labelling.category_ids, labelling.classes, strict=True)
        ]
        head = f'{{"categories": {json.dumps(categories)},\n"images": ['
        self._images = JsonItems(images, head, "]}") if images else None
        self._count = 0

    def add(self, view: View, found: Detections) -> None:
        self._count += 1
        given = self._labelling.image_ids
        number = self._count if given is None else given[view.source]
        for item in as_coco_results([found], [number], self._labelling.category_ids):
            self._results.add(item)
        if self._images:
            height, width = view.size
            place = {"id": number, "file_name": view.source.name.as_posix(), "height": height, "width": width}
            self._images.add({**place, **view.moment})

    def finish(self) -> None:
        self._results.finish()
        if self._images:
            self._images.finish()


class _Csv:
    """A line for each object; frame and time, if there are videos, are empty for pictures."""

    def __init__(self, stream: TextIO, labelling: Labelling) -> None:
        self._labelling = labelling
        self._rows = csv.writer(stream, lineterminator="\n")
        moment = ("frame", "time") if labelling.videos else ()
        self._rows.writerow(("file", "class", "score", "x1", "y1", "x2", "y2", *moment))

    def add(self, view: View, found: Detections) -> None:
        moment = [view.frame, view.moment.get("time")] if self._labelling.videos else []
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            edges = [round(float(edge), 2) for edge in box]
            name = self._labelling.classes[int(label)]
            self._rows.writerow([view.source.path, name, round(float(score), 4), *edges, *moment])

    def finish(self) -> None:
        pass


class _Yolo:
    """``labels/NAME.txt`` with lines of class, centre and size in parts of the picture, as labels have it: no score."""

    def __init__(self, folder: Path, labelling: Labelling) -> None:
        self._folder, self._classes = folder, labelling.classes

    def add(self, view: View, found: Detections) -> None:
        stem = view.source.stem
        if view.frame is not None:
            stem = stem.with_name(f"{stem.name}.frames") / f"{view.frame:06}"
        height, width = view.size
        lines = []
        for (x1, y1, x2, y2), label in zip(found.boxes, found.labels, strict=True):
            parts = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(" ".join((str(int(label)), *(f"{float(part):.6f}" for part in parts))))
        write_text(
            (self._folder / "labels" / stem).with_name(f"{stem.name}.txt"), "".join(f"{line}\n" for line in lines)
        )

    def finish(self) -> None:
        write_text(self._folder / _FILES["classes"], "".join(f"{name}\n" for name in self._classes))


def read_image_ids(path: Path, sources: Sequence[Source]) -> dict[Source, int]:
    """COCO's ids for pictures.

    Args:
        path: an annotation file with ``images``, or a JSON object {file name: id}.
        sources: the pictures; each is looked up by its path, its place in its folder, and its file name.

    Raises:
        InputError: the file has another form, or a picture is not in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content.get("images")
        ids = content if listed is None else {image["file_name"]: image["id"] for image in listed}
        ids = {str(name): int(number) for name, number in ids.items()}
    except OSError as error:
        raise InputError(f"--coco-images {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f'--coco-images {path}: expected COCO annotations, or {{"file name": id, ...}}') from error
    numbers: dict[Source, int] = {}
    missing: list[Source] = []
    for source in sources:
        names = (str(source.path), source.name.as_posix(), source.path.name)
        name = next((name for name in names if name in ids), None)
        if name is None:
            missing.append(source)
        else:
            numbers[source] = ids[name]
    if missing:
        raise InputError(
            f"--coco-images {path}: {len(missing)} of {len(sources)} files have no id in it, such as {missing[0].path}"
        )
    if len(set(numbers.values())) < len(numbers):
        raise InputError(f"--coco-images {path}: two of the files have the same id; their names must tell them apart")
    return numbers
