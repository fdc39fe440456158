"""The three steps of an answer: pictures to a batch, the graph, and its outputs to an answer. Numpy and pillow only.

Triton runs each as a model of its own (``backend.py``), the built-in server in its own process; neither knows more
about pictures than this file. A step takes several requests at once. A request is a mapping from tensor names to
arrays whose first axis is its pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.framing import frame_for_classifier
from backbones.images import Picture, Size, padded_size, read_image, stack_padded
from deploy.runtimes.session import Session
from detection.detections import Detections
from detection.framing import FoundArrays, Framed, frame, unframe
from detection.settings import DetectorSettings

logger = logging.getLogger("shortcut")

Request = Mapping[str, NDArray[Any]]
Answer = dict[str, NDArray[Any]]
BEST = 5
"""A classifier's answer names so many classes, best first."""


class Stage(Protocol):
    """One step: several requests in, an answer or an error for each."""

    def run(self, requests: Sequence[Request]) -> list[Answer | InputError]: ...


class PictureStage:
    """The bytes of picture files become the input of the graph.

    Inputs: ``image`` [B, N] uint8, each row the bytes of a JPEG, PNG, WebP or BMP file (zeros may follow: decoders stop
    at a file's end). Outputs: ``images`` [B, H, W, 3] uint8; for detectors also ``sizes`` [B, 2], the valid (height,
    width) in the batch, and ``size`` [B, 2], the picture's own.

    The files are numbers, not the protocol's strings: a malformed string kills the process of Triton's Python backend.

    Args:
        metadata: of the exported model.
        max_pixels: larger pictures are refused before they are decoded.
    """

    def __init__(self, metadata: Mapping[str, Any], max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.detector = _detector_settings(metadata)
        self.convention = InputConvention.from_dict(metadata["input"]) if self.detector is None else None

    def run(self, requests: Sequence[Request]) -> list[Answer | InputError]:
        return [_attempt(self._prepare, request) for request in requests]

    def _prepare(self, request: Request) -> Answer:
        files = request["image"]
        pictures = [
            read_image(file.tobytes(), max_pixels=self.max_pixels, name=_name(number, len(files)))
            for number, file in enumerate(files)
        ]
        if self.detector is None:
            assert self.convention is not None
            return {"images": _stack([frame_for_classifier(picture, self.convention) for picture in pictures])}
        framed = [frame(number, picture, self.detector.input) for number, picture in enumerate(pictures)]
        room = (max(one.padded[0] for one in framed), max(one.padded[1] for one in framed))
        return {
            "images": stack_padded([one.image for one in framed], room),
            "sizes": np.array([one.image.shape[:2] for one in framed], np.int64),
            "size": np.array([one.original for one in framed], np.int64),
        }


class GraphStage:
    """The exported graph on all pictures of several requests, whatever their sizes.

    Pictures that are padded alike go through the graph together, as in ``detection.framing``: what is found in a
    picture never depends on its neighbours. Inputs and outputs are the graph's own.

    Args:
        session: the engine.
        multiple: of which padded sizes are multiples; None for graphs without ``sizes``.
        dtypes: the outputs that are wanted, and their types.
    """

    def __init__(self, session: Session, multiple: int | None, dtypes: Mapping[str, Any]) -> None:
        self.session, self.multiple, self.dtypes = session, multiple, dtypes

    def run(self, requests: Sequence[Request]) -> list[Answer | InputError]:
        cut = [_attempt(self._cut, request) for request in requests]
        pictures = [picture for part in cut if not isinstance(part, InputError) for picture in part]
        rows = iter(self._through_graph(pictures))
        answers: list[Answer | InputError] = []
        for part in cut:
            if isinstance(part, InputError):
                answers.append(part)
            else:
                own = [next(rows) for _ in part]
                answers.append({name: np.stack([row[name] for row in own]) for name in self.dtypes})
        return answers

    def _cut(self, request: Request) -> list[tuple[Picture, Size]]:
        """Each picture of a request, without padding, and the size that it is to be padded to."""
        images = request["images"]
        if self.multiple is None:
            return [(image, image.shape[:2]) for image in images]
        height, width = images.shape[1:3]
        for valid in request["sizes"]:
            if not (1 <= valid[0] <= height and 1 <= valid[1] <= width):
                raise InputError(f"sizes: {valid.tolist()} is no (height, width) in images of {height} x {width}")
        sizes = [(int(valid[0]), int(valid[1])) for valid in request["sizes"]]
        return [
            (image[: size[0], : size[1]], padded_size(size, self.multiple))
            for image, size in zip(images, sizes, strict=True)
        ]

    def _through_graph(self, pictures: list[tuple[Picture, Size]]) -> list[Answer]:
        groups: dict[Size, list[int]] = {}
        for number, (_, padded) in enumerate(pictures):
            groups.setdefault(padded, []).append(number)
        rows: list[Answer] = [{} for _ in pictures]
        for padded, members in groups.items():
            own = [pictures[number][0] for number in members]
            inputs: dict[str, NDArray[Any]] = {"images": stack_padded(own, padded)}
            if self.multiple is not None:
                inputs["sizes"] = np.array([picture.shape[:2] for picture in own], np.int64)
            found = self.session.run(inputs)
            if "exact" in found and not found["exact"].all():
                logger.warning("suppression did not settle for %d of %d images", (~found["exact"]).sum(), len(own))
            for place, number in enumerate(members):
                rows[number] = {
                    name: np.atleast_1d(found[name][place]).astype(dtype, copy=False)
                    for name, dtype in self.dtypes.items()
                }
        return rows


class DetectorAnswerStage:
    """The graph's boxes become detections in the picture's own pixels.

    Inputs: the graph's outputs, ``sizes`` and ``size`` as ``PictureStage`` gives them. Outputs: ``boxes`` [B, D, 4],
    ``scores`` and ``labels`` [B, D], and with a mask branch ``masks`` [B, D, L] uint8: each in COCO's compressed
    run-length text for a picture of ``size``, with zeros behind it. D is the most that one picture has, at least 1;
    scores of 0 pad.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        settings = _detector_settings(metadata)
        assert settings is not None
        self.masks = settings.masks

    def run(self, requests: Sequence[Request]) -> list[Answer | InputError]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        masks = request["masks"] if self.masks is not None else None
        whole_pixels = self.masks is not None and self.masks.whole_pixels
        found = FoundArrays(request["boxes"], request["scores"], request["labels"], masks, whole_pixels)
        detected = [
            unframe(_outline(number, valid, size), found, number)
            for number, (valid, size) in enumerate(zip(request["sizes"], request["size"], strict=True))
        ]
        room = max(1, *(len(one) for one in detected))
        answer: Answer = {
            "boxes": _padded([one.boxes for one in detected], room, np.float32, (4,)),
            "scores": _padded([one.scores for one in detected], room, np.float32),
            "labels": _padded([one.labels for one in detected], room, np.int64),
        }
        if masks is not None:
            texts = [_mask_texts(one) for one in detected]
            longest = max(1, *(text.shape[1] for text in texts))
            answer["masks"] = _padded(
                [np.pad(text, ((0, 0), (0, longest - text.shape[1]))) for text in texts], room, np.uint8, (longest,)
            )
        return answer


class ClassifierAnswerStage:
    """Logits become probabilities.

    Inputs: ``logits`` [B, K]. Outputs: ``probabilities`` [B, K], and ``scores`` and ``labels`` [B, 5] of the best.
    """

    def run(self, requests: Sequence[Request]) -> list[Answer | InputError]:
        return [self._answer(request["logits"]) for request in requests]

    def _answer(self, logits: NDArray[np.float32]) -> Answer:
        raised = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = np.asarray(raised / raised.sum(1, keepdims=True), np.float32)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST].astype(np.int64)
        scores = np.take_along_axis(probabilities, best, 1)
        return {"probabilities": probabilities, "scores": scores, "labels": best}


def _detector_settings(metadata: Mapping[str, Any]) -> DetectorSettings | None:
    return DetectorSettings.from_dict(metadata["architecture"]) if metadata["task"] == "detection" else None


def _attempt(step: Any, request: Request) -> Any:
    try:
        return step(request)
    except InputError as error:
        return error


def _name(number: int, count: int) -> str:
    return "image" if count == 1 else f"image {number}"


def _stack(images: list[Picture]) -> Picture:
    if len({image.shape for image in images}) > 1:
        raise InputError("this classifier keeps each picture's size, so pictures of one request must be of one size")
    return np.stack(images)


def _outline(number: int, valid: NDArray[np.int64], size: NDArray[np.int64]) -> Framed:
    """A framed picture of which only the sizes are known."""
    height, width = int(valid[0]), int(valid[1])
    nothing = np.broadcast_to(np.zeros((), np.uint8), (height, width, 3))
    return Framed(number, nothing, (int(size[0]), int(size[1])), (height, width))


def _mask_texts(detected: Detections) -> NDArray[np.uint8]:
    """[D, L]."""
    texts = [np.frombuffer(mask["counts"].encode(), np.uint8) for mask in detected.masks.to_compressed_coco()]
    table = np.zeros((len(texts), max((len(text) for text in texts), default=1)), np.uint8)
    for row, text in zip(table, texts, strict=True):
        row[: len(text)] = text
    return table


def _padded(rows: list[NDArray[Any]], room: int, dtype: Any, rest: tuple[int, ...] = ()) -> NDArray[Any]:
    """Arrays of different lengths under one another. [D_i, *rest] -> [B, room, *rest]."""
    table = np.zeros((len(rows), room, *rest), dtype)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
