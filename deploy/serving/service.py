"""One served model: the bytes of picture files in, what the runtime finds in them out, as tensors or as JSON.

Numpy and pillow only: Triton's container has nothing else of what servers and clients need.

Triton's Python backend calls ``Service.answer`` with the files of the requests of one batch. The built-in server takes
the same steps, and batches between them: it decodes while the graph looks at others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.classification import Classification
from backbones.errors import InputError
from backbones.images import Size, read_image
from backbones.metadata import ModelMetadata, refuse_threshold
from deploy.runtimes import Runtime, load_runtime
from detection.detections import Detections
from detection.framing import batches_of_equal_size
from detection.masks.compressed import decompress
from detection.masks.run_length import RunLengthMasks
from detection.metrics.thresholds import thresholds_by_class
from detection.segmentation.maps import SegmentationMap
from detection.segmentation.settings import IGNORED
from detection.settings import DetectorSettings

ABOUT = "about.json"
"""The exported model's metadata, beside a model whose graph Triton runs."""
MODEL_FILES = ("model.onnx", "model.plan")
BEST = 5
"""So many classes of a picture are named, best first."""
READERS = max(2, os.cpu_count() or 1)
"""Threads that decode pictures."""

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class About:
    """What a served model says of itself, in the parameters of its configuration.

    Attributes:
        task: ``classification``, ``detection`` or ``segmentation``.
        classes: names by label.
        score_thresholds: the least score of each class that counts as found; empty where the model stores none.
        category_ids: by label, those of the files that a detector was trained on; empty for 1..K.
    """

    task: str
    classes: tuple[str, ...]
    score_thresholds: tuple[float, ...] = ()
    category_ids: tuple[int, ...] = ()

    @classmethod
    def of(cls, metadata: ModelMetadata) -> About:
        """Of an exported model."""
        if metadata.task != "detection":
            return cls(metadata.task, metadata.classes)
        settings = DetectorSettings.of(metadata)
        return cls(metadata.task, metadata.classes, settings.score_thresholds, settings.category_ids)

    def to_texts(self) -> dict[str, str]:
        """Each value as JSON."""
        return {name: json.dumps(value) for name, value in vars(self).items()}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> About:
        """The inverse of ``to_texts``."""
        stored, ids = (json.loads(texts.get(name, "[]")) for name in ("score_thresholds", "category_ids"))
        return cls(json.loads(texts["task"]), tuple(json.loads(texts["classes"])), tuple(stored), tuple(ids))


@dataclass(frozen=True)
class Answer:
    """Of one picture.

    Attributes:
        found: ``Detections``, a ``SegmentationMap``, or a ``Classification``.
        size: the picture's (height, width).
    """

    found: Any
    size: Size


class Service:
    """A model that answers files.

    Args:
        runtime: the model.
        max_pixels: larger pictures are refused before they are decoded.
    """

    def __init__(self, runtime: Runtime, max_pixels: int) -> None:
        self.runtime, self.max_pixels = runtime, max_pixels
        self._readers = ThreadPoolExecutor(READERS)

    def read(self, file: bytes, number: int = 0) -> Any:
        """A picture as the runtime's ``look`` takes it.

        Raises:
            InputError: it is none.
        """
        return self.runtime.frame(number, read_image(file, max_pixels=self.max_pixels, name="image"))

    def result(self, picture: Any, found: Any, row: int) -> Answer:
        """What ``look`` found in one of its pictures."""
        return Answer(self.runtime.result(picture, found, row), picture.original)

    def answer(self, files: Sequence[bytes]) -> list[Answer | InputError]:
        """An answer for each file, or why there is none. Files are decoded by threads; what is padded alike goes
        through the graph together."""
        answers: list[Any] = [None] * len(files)
        for group in batches_of_equal_size(self._readable(files, answers), len(files)):
            try:
                found = self.runtime.look(group)
            except InputError as error:
                for picture in group:
                    answers[picture.number] = error
                continue
            for row, picture in enumerate(group):
                answers[picture.number] = self.result(picture, found, row)
        return answers

    def _readable(self, files: Sequence[bytes], answers: list[Any]) -> Iterator[Any]:
        def read(item: tuple[int, bytes]) -> Any:
            try:
                return self.read(item[1], item[0])
            except InputError as error:
                return error

        mapped = map(read, enumerate(files)) if len(files) == 1 else self._readers.map(read, enumerate(files))
        for number, picture in enumerate(mapped):
            if isinstance(picture, InputError):
                answers[number] = picture
            else:
                yield picture


def open_service(folder: Path, parameters: Mapping[str, str], runtime: Runtime | None = None) -> Service:
    """A model of a repository.

    Args:
        folder: of the model's version.
        parameters: of its configuration.
        runtime: the model, where its graph runs elsewhere.

    Raises:
        InputError: it cannot be loaded, or only Triton runs it.
    """
    if runtime is None:
        path = next((folder / name for name in MODEL_FILES if (folder / name).exists()), None)
        if path is None:
            raise InputError(f"{folder}: only Triton runs tensorrt_plan; write the repository with --plans python")
        threads, engine = int(parameters["threads"]) or None, parameters.get("engine")
        runtime = load_runtime(path, threads, engine, parameters["hint"])
    return Service(runtime, int(parameters["max_pixels"]))


def whole(answers: Sequence[Answer | BaseException]) -> list[Answer]:
    """The answers of the pictures of one request.

    Raises:
        InputError: one of them has none; where there are several, with its place.
    """
    for place, answer in enumerate(answers):
        if isinstance(answer, InputError) and len(answers) > 1:
            raise InputError(f"picture {place}: {answer}") from answer
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if isinstance(answer, Answer)]


def tensors_of(answers: Sequence[Answer], wanted: Collection[str]) -> Tensors:
    """The wanted tensors of a request's answers.

    - Of detectors: ``boxes`` [B, D, 4] in the picture's pixels, ``scores`` and ``labels`` [B, D], with masks ``masks``
      [B, D, L] uint8: each COCO's compressed text, zeros behind it. D is the most that one picture has, at least 1;
      scores of 0 pad.
    - Of classifiers: ``probabilities`` [B, K]; ``scores`` and ``labels`` [B, 5] of the best.
    - Of segmenters: ``labels`` [B, H, W] uint8 and ``scores``; 255 and 0 pad.

    ``size`` [B, 2] is the picture's (height, width), of detectors and segmenters.
    """
    found = [answer.found for answer in answers]
    if isinstance(found[0], Detections):
        tensors = _of_detections(found, "masks" in wanted)
    elif isinstance(found[0], SegmentationMap):
        room = tuple(max(answer.size[side] for answer in answers) for side in (0, 1))
        labels = _padded([one.labels for one in found], room, np.uint8, IGNORED)
        tensors = {"labels": labels, "scores": _padded([one.scores for one in found], room, np.float32)}
    else:
        probabilities = np.stack([one.probabilities for one in found])
        best = best_of(probabilities).astype(np.int64)
        scores = np.take_along_axis(probabilities, best, 1)
        tensors = {"probabilities": probabilities, "scores": scores, "labels": best}
    tensors["size"] = np.array([answer.size for answer in answers], np.int64)
    return {name: tensors[name] for name in wanted}


def _of_detections(found: Sequence[Detections], masks: bool) -> Tensors:
    room = max(1, *(len(one) for one in found))
    tensors = {
        "boxes": _padded([one.boxes for one in found], (room, 4), np.float32),
        "scores": _padded([one.scores for one in found], (room,), np.float32),
        "labels": _padded([one.labels for one in found], (room,), np.int64),
    }
    if masks:
        texts = [[mask["counts"].encode() for mask in one.masks.to_compressed_coco()] for one in found]
        longest = max((len(text) for own in texts for text in own), default=1)
        tables = [np.array(own, f"S{longest}").view(np.uint8).reshape(len(own), longest) for own in texts]
        tensors["masks"] = _padded(tables, (room, longest), np.uint8)
    return tensors


def found_in(tensors: Mapping[str, NDArray[Any]]) -> Any:
    """What a model found, of an answer of one picture; as ``Answer`` has it."""
    if "probabilities" in tensors:
        return Classification(tensors["probabilities"][0])
    if "boxes" not in tensors:
        return SegmentationMap(tensors["labels"][0], tensors["scores"][0])
    count = int((tensors["scores"][0] > 0).sum())
    height, width = (int(side) for side in tensors["size"][0])
    masks = None
    if "masks" in tensors:
        texts = (row.tobytes().rstrip(b"\0") for row in tensors["masks"][0, :count])
        masks = RunLengthMasks((height, width), tuple(decompress(text) for text in texts))
    boxes, scores, labels = (np.array(tensors[name][0, :count]) for name in ("boxes", "scores", "labels"))
    return Detections(boxes, scores, labels, masks, size=(height, width))


def least_scores(about: About, threshold: float | None) -> tuple[float, ...]:
    """What counts as found in a model's pictures, by ``thresholds_by_class``; of classes, all of the best.

    Raises:
        InputError: no score can be compared with the threshold, or the model labels every pixel.
    """
    if about.task == "segmentation":
        refuse_threshold(about.task, threshold)
    return thresholds_by_class(about, 0.0 if threshold is None and about.task != "detection" else threshold)


def as_json(found: Any, about: About, threshold: float | None = None, top: int = BEST) -> list[dict[str, Any]]:
    """What was found in one picture, for people: objects, the best classes, or the classes that its pixels have.

    Args:
        found: as in ``Answer``.
        about: the model.
        threshold: the least score; by default the model's own.
        top: of classes so many.

    Raises:
        InputError: as ``least_scores``.
    """
    least = least_scores(about, threshold)
    if isinstance(found, Detections):
        return found.above(least).to_json(about.classes)
    if isinstance(found, SegmentationMap):
        return _segments(found, about.classes)
    named = replace(found, classes=about.classes).to_json(top)
    return [entry for entry in named if entry["score"] >= least[0]]


def best_of(probabilities: NDArray[np.float32], count: int = BEST) -> NDArray[np.int64]:
    """The labels of the best classes, best first. [..., K] -> [..., count]."""
    best: NDArray[np.int64] = np.argsort(-probabilities, axis=-1, kind="stable")[..., :count]
    return best


def _segments(found: SegmentationMap, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The classes that are in the picture, the largest first: share of its pixels, mean score there, and where."""
    segments = []
    for label in np.unique(found.labels):
        inside = found.labels == label
        segment = {
            "class": classes[int(label)],
            "share": round(float(inside.mean()), 6),
            "score": round(float(found.scores[inside].mean(dtype=np.float64)), 4),
            "mask": RunLengthMasks.from_dense(inside[None]).to_compressed_coco()[0],
        }
        segments.append(segment)
    return sorted(segments, key=lambda segment: -segment["share"])


def _padded(rows: Sequence[NDArray[Any]], room: tuple[int, ...], dtype: Any, padding: int = 0) -> NDArray[Any]:
    """Arrays of different sizes as one. [D_i, ...] -> [B, *room]."""
    table = np.full((len(rows), *room), padding, dtype)
    for line, row in zip(table, rows, strict=True):
        line[tuple(slice(side) for side in row.shape)] = row
    return table
