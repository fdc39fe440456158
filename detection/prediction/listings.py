"""What is found, as files: JSON, COCO results, CSV, YOLO labels, and label images, written as they come.

Each file is whole or absent: it grows under another name, and gets its own when the run is over.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from backbones.errors import InputError
from backbones.images import Size
from backbones.running.atomic_write import atomic_path, write_text
from detection.detections import Detections
from detection.metrics.coco import as_coco_results
from detection.prediction.copies import copy_name
from detection.prediction.sources import Source
from detection.segmentation.drawing import save_labels
from detection.settings import DetectorSettings

LISTINGS = ("json", "coco", "csv", "yolo")
_FILES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "detection": {
        "json": ("detections.json",), "coco": ("coco_results.json", "coco_images.json"), "csv": ("detections.csv",),
        "yolo": ("classes.txt",),
    },
    "segmentation": {"json": ("segmentation.json",)},
}  # fmt: skip
"""Of each kind, by the model's task."""
_LABELS = {"yolo": ".txt", "labels": ".png"}
"""Kinds with a file for each picture, in the folder ``labels``: how these end."""
Listing = Callable[["View", Any], None]
"""Adds what was found in a picture or frame to a file."""


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

    def label_file(self, kind: str) -> Path:
        """``labels/NAME.png``, and of a video's frame ``labels/NAME.frames/000012.png``."""
        stem = self.source.stem
        if self.frame is not None:
            stem = stem.with_name(f"{stem.name}.frames") / f"{self.frame:06}"
        return Path("labels") / stem.with_name(f"{stem.name}{_LABELS[kind]}")


@dataclass(frozen=True)
class Labelling:
    """What results are written with.

    Attributes:
        classes: names by label.
        category_ids: the training set's ids by label.
        image_ids: COCO's image ids by source, where they are given.
        videos: whether any source is a video.
        task: ``detection``, or ``segmentation``, which has nothing but classes.
    """

    classes: Sequence[str]
    category_ids: Sequence[int] = ()
    image_ids: Mapping[Source, int] | None = None
    videos: bool = False
    task: str = "detection"

    @classmethod
    def of(
        cls, settings: DetectorSettings, sources: Sequence[Source], image_ids: Mapping[Source, int] | None = None
    ) -> Labelling:
        """Of a detector; its category ids are 1, 2, ... where the training set's are not known."""
        ids = settings.category_ids or tuple(range(1, len(settings.classes) + 1))
        return cls(settings.classes, ids, image_ids, any(source.is_video for source in sources))


def result_names(
    saved: Sequence[str], format: str, sources: Sequence[Source], own_ids: bool = False, task: str = "detection"
) -> list[str]:
    """All that is written, relative to the folder; with a slash at the end what is a folder as a whole.

    Args:
        saved: ``pictures``, and kinds of listings.
        format: of drawn copies.
        sources: that are looked at.
        own_ids: COCO's image ids are given, so that no file says what they mean.
        task: the model's.
    """
    names = [name for kind, files in _FILES[task].items() if kind in saved for name in files]
    if own_ids and "coco" in saved:
        names.remove("coco_images.json")
    endings = [ending for kind, ending in _LABELS.items() if kind in saved]
    for source in sources:
        names += [copy_name(source, format)] if "pictures" in saved else []
        names += [f"labels/{source.stem}{'.frames/' if source.is_video else ending}" for ending in endings]
    return names


@contextmanager
def open_listings(kinds: Sequence[str], folder: Path, labelling: Labelling) -> Iterator[list[Listing]]:
    """The listings to add to; complete when the block is left, absent if it fails."""
    openers = {"json": _json, "coco": _coco, "csv": _csv, "yolo": _yolo, "labels": _labels}
    with ExitStack() as files:
        yield [files.enter_context(openers[kind](folder, labelling, kinds)) for kind in openers if kind in kinds]


@contextmanager
def _growing(path: Path) -> Iterator[TextIO]:
    """A text file to write to, under another name until the block is left."""
    # names of files may be no text; a listing always is
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as f:
        yield f


@contextmanager
def _json_list(path: Path, head: str, tail: str) -> Iterator[Callable[[Any], None]]:
    """A JSON list in a file, an item to a line: what adds one."""
    with _growing(path) as stream:
        stream.write(head)
        before = "\n"

        def add(item: Any) -> None:
            nonlocal before
            stream.write(before + json.dumps(item))
            before = ",\n"

        yield add
        stream.write("\n" + tail + "\n")


@contextmanager
def _json(folder: Path, labelling: Labelling, kinds: Sequence[str]) -> Iterator[Listing]:
    """``{"classes": [...], "pictures": [{"file", "height", "width", "detections": [...]}, ...]}``.

    Of labelled pixels ``"labels"``, the label image if there is one, and ``"shares": {name: part}``.
    """
    head = f'{{"classes": {json.dumps(list(labelling.classes))},\n"pictures": ['
    with _json_list(folder / _FILES[labelling.task]["json"][0], head, "]}") as append:

        def add(view: View, found: Any) -> None:
            height, width = view.size
            place = {"file": str(view.source.path), **view.moment, "height": height, "width": width}
            image = {"labels": view.label_file("labels").as_posix()} if "labels" in kinds else {}
            what = "detections" if labelling.task == "detection" else "shares"
            append({**place, **image, what: found.to_json(labelling.classes)})

        yield add


@contextmanager
def _coco(folder: Path, labelling: Labelling, kinds: Sequence[str]) -> Iterator[Listing]:
    """COCO's results list; beside it the images and categories that its ids mean, unless the ids were given."""
    given = labelling.image_ids
    categories = [
        {"id": number, "name": name} for number, name in zip(labelling.category_ids, labelling.classes, strict=True)
    ]
    head = f'{{"categories": {json.dumps(categories)},\n"images": ['
    results_file, images_file = (folder / name for name in _FILES["detection"]["coco"])
    known = nullcontext() if given is not None else _json_list(images_file, head, "]}")
    numbers = count(1)
    with known as add_image, _json_list(results_file, "[", "]") as add_result:

        def add(view: View, found: Detections) -> None:
            number = next(numbers) if given is None else given[view.source]
            for item in as_coco_results([found], [number], labelling.category_ids):
                add_result(item)
            if add_image:
                height, width = view.size
                place = {"id": number, "file_name": view.source.name.as_posix(), "height": height, "width": width}
                add_image({**place, **view.moment})

        yield add


@contextmanager
def _csv(folder: Path, labelling: Labelling, kinds: Sequence[str]) -> Iterator[Listing]:
    """A line for each object; frame and time, if there are videos, are empty for pictures."""
    with _growing(folder / _FILES["detection"]["csv"][0]) as stream:
        rows = csv.writer(stream, lineterminator="\n")
        times = ("frame", "time") if labelling.videos else ()
        rows.writerow(("file", "class", "score", "x1", "y1", "x2", "y2", *times))

        def add(view: View, found: Detections) -> None:
            moment = [view.frame, view.moment.get("time")] if labelling.videos else []
            for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
                edges = [round(float(edge), 2) for edge in box]
                name = labelling.classes[int(label)]
                rows.writerow([view.source.path, name, round(float(score), 4), *edges, *moment])

        yield add


@contextmanager
def _yolo(folder: Path, labelling: Labelling, kinds: Sequence[str]) -> Iterator[Listing]:
    """``labels/NAME.txt`` with lines of class, centre and size in parts of the picture, as labels have it: no score."""

    def add(view: View, found: Detections) -> None:
        height, width = view.size
        lines = []
        for (x1, y1, x2, y2), label in zip(found.boxes, found.labels, strict=True):
            parts = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(" ".join((str(int(label)), *(f"{float(part):.6f}" for part in parts))))
        write_text(folder / view.label_file("yolo"), "".join(f"{line}\n" for line in lines))

    yield add
    write_text(folder / _FILES["detection"]["yolo"][0], "".join(f"{name}\n" for name in labelling.classes))


@contextmanager
def _labels(folder: Path, labelling: Labelling, kinds: Sequence[str]) -> Iterator[Listing]:
    """PNG files whose pixels are the labels, with VOC's palette."""
    yield lambda view, found: save_labels(folder / view.label_file("labels"), found.labels)


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
