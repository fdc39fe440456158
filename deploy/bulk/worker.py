"""What each process of a bulk run does: names in, out a row for each picture, as JSON and Parquet hold it.

Imported by the processes, and by none of the options.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from backbones.errors import InputError
from backbones.images import Picture, Size, read_image
from backbones.protocols.reading import map_ahead
from deploy.models import open_model
from detection.detections import Detections

READERS = 1
"""Threads beside the model's own that decode pictures."""
BLOCK = 32
"""Rows that leave a process at once."""
Row = dict[str, Any]
"""``file``, ``height``, ``width``, ``error`` (None unless it could not be read) and ``detections``, a list of
dictionaries with ``class``, ``score``, ``box`` and, of models with masks, ``mask``: the same as ``predict`` lists."""


@dataclass(frozen=True)
class Work:
    """How pictures are looked at.

    Attributes:
        model, engine, threads: of ``load_runtime``.
        thresholds: least score of each class.
        max_detections: of each picture, or None.
        batch_size: pictures at once.
    """

    model: str
    engine: str | None
    threads: int
    thresholds: tuple[float, ...]
    max_detections: int | None
    batch_size: int


class Worker:
    """Rows of pictures, by a model that is loaded once.

    Args:
        work: how.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._detector = open_model(
            work.model, tasks=("detection",), engine=work.engine, threads=work.threads, hint="throughput"
        )

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A block of Ray Data with names -> blocks of rows, both as JSON texts (a name may be no text)."""
        rows = self.rows([json.loads(name) for name in batch["file"]])
        while block := [json.dumps(row) for row in islice(rows, BLOCK)]:
            yield {"row": np.array(block)}

    def rows(self, paths: Sequence[str]) -> Iterator[Row]:
        """A row for each, in the order in which batches fill; those that cannot be read come last."""
        faults: list[Row] = []
        looked: list[tuple[str, Size]] = []

        def readable() -> Iterator[Picture]:
            for path, picture in map_ahead(_read, paths, READERS):
                if isinstance(picture, InputError):
                    faults.append(failed_row(shown_name(path), str(picture)))
                else:
                    looked.append((shown_name(path), (picture.shape[0], picture.shape[1])))
                    yield picture

        work = self._work
        for place, found in self._detector.predict_each(readable(), work.batch_size):
            name, size = looked[place]
            yield found_row(name, size, chosen(found, work.thresholds, work.max_detections), self._detector.classes)
        yield from faults


def _read(path: str) -> tuple[str, Picture | InputError]:
    try:
        return path, read_image(path)
    except InputError as fault:
        return path, fault


def shown_name(path: str | os.PathLike[str]) -> str:
    """A file's name as text: names of files may be no text, listings always are."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def found_row(name: str, size: Size, found: Detections, classes: Sequence[str]) -> Row:
    """Of a picture that was looked at."""
    height, width = size
    return {"file": name, "height": height, "width": width, "error": None, "detections": found.to_json(classes)}


def failed_row(name: str, reason: str) -> Row:
    """Of one that could not be read."""
    return {"file": name, "height": None, "width": None, "error": " ".join(reason.split()), "detections": []}


def chosen(found: Detections, thresholds: Sequence[float], most: int | None) -> Detections:
    """Those that reach their class's threshold, at most so many."""
    kept = found.above(thresholds)
    return kept if most is None else kept[:most]


def plain_thresholds(thresholds: Sequence[float]) -> list[float | None]:
    """As JSON holds them: None for a class that is not wanted."""
    return [None if math.isinf(least) else least for least in thresholds]
