"""From pictures of any size to padded batches, and from boxes in a batch back to the pictures.

Every detector and segmenter, eager or exported, is a ``PictureModel``. Numpy and pillow only. A picture is padded to
its own size rounded up, and shares a batch only with pictures of the same padded size, so what is found in it
never depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from backbones.images import (
    Picture,
    Size,
    answered,
    check_batch_size,
    fit_size,
    name_of,
    padded_size,
    read_image,
    resize,
    stack_padded,
)
from backbones.protocols.reading import map_ahead
from detection.detections import Detections
from detection.masks.pasting import paste, whole_pixel_boxes
from detection.metrics.thresholds import thresholds_by_class
from detection.settings import DetectorSettings, InputSettings

WORKERS = 2
"""Threads that read and resize pictures while the network looks at others."""
MOST_PIXELS = 256_000_000
"""Pictures that wait for others of their size hold at most about so many pixels, of three bytes each."""
LONGEST_WAIT = 1000
"""No picture waits until so many have come after it."""


@dataclass(frozen=True)
class FoundArrays:
    """What is found in a padded batch.

    Attributes:
        boxes: [B, D, 4] in pixels of the batch.
        scores: [B, D]; 0 pads.
        labels: [B, D].
        masks: [B, D, m, m], the probability of each cell of a box, or None.
        whole_pixels: masks want boxes rounded to whole pixels.
        classes, category_ids: of the labels, as the model's settings have them.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    masks: NDArray[Any] | None = None
    whole_pixels: bool = False
    classes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, settings: DetectorSettings, boxes: Any, scores: Any, labels: Any, masks: NDArray[Any] | None
    ) -> FoundArrays:
        """What a model of these settings finds."""
        whole_pixels = settings.masks is not None and settings.masks.whole_pixels
        return cls(boxes, scores, labels, masks, whole_pixels, settings.classes, settings.category_ids)

    def unframe(self, picture: Framed, row: int) -> Detections:
        """What is found in one picture: without the padding, boxes scaled back to it, and masks pasted into it."""
        real = self.scores[row] > 0
        height, width = picture.image.shape[:2]
        scale = np.array([picture.original[1] / width, picture.original[0] / height] * 2, np.float32)
        limits = np.array(picture.original[::-1] * 2, np.float32)
        boxes = np.minimum(self.boxes[row, real] * scale, limits)
        masks = None
        if self.masks is not None:
            grids = self.masks[row, real].astype(np.float32)
            frames = whole_pixel_boxes(boxes, grids.shape[-1]) if self.whole_pixels else boxes
            masks = paste(grids, frames, picture.original)
        labels = self.labels[row, real].astype(np.int64)
        return Detections(
            boxes, self.scores[row, real], labels, masks, self.classes, self.category_ids, picture.original
        )


@dataclass(frozen=True)
class Framed:
    """A picture at the size of the network's input.

    Attributes:
        number: its place in the sequence it came from.
        image: [h, w, 3] uint8.
        original: (height, width) before resizing.
        padded: (height, width) that a batch gives it.
    """

    number: int
    image: Picture
    original: Size
    padded: Size

    @property
    def pixels(self) -> int:
        """What is held while it waits: its own pixels, and those of the original, which its owner may draw on."""
        return self.original[0] * self.original[1] + self.image.size // 3


def frame(number: int, picture: Picture, settings: InputSettings) -> Framed:
    """Resize a picture for the network."""
    original = (picture.shape[0], picture.shape[1])
    size = fit_size(original, settings.shorter, settings.longer)
    return Framed(number, resize(picture, size), original, padded_size(size, settings.multiple))


class Padded(Protocol):
    """Something that may share a batch with whatever is padded alike: a picture of a stream, of so many pixels."""

    @property
    def number(self) -> int: ...

    @property
    def padded(self) -> Hashable: ...

    @property
    def pixels(self) -> int: ...


_P = TypeVar("_P", bound=Padded)
_R = TypeVar("_R")


def framed_ahead(make: Callable[[int, Picture], _P], pictures: Iterable[Any]) -> Iterator[_P]:
    """``make(place, picture)`` of a stream of anything that ``read_image`` takes, by threads that run ahead."""

    def read(item: tuple[int, Any]) -> _P:
        return make(item[0], read_image(item[1], name=name_of(item[1], item[0])))

    return map_ahead(read, enumerate(pictures), WORKERS)


def batches_of_equal_size(framed: Iterable[_P], batch_size: int) -> Iterator[list[_P]]:
    """Groups of at most ``batch_size`` pictures with the same padded size; each leaves as soon as it is full.

    The group that began first leaves before, if the waiting pictures become too many pixels, or if the last one came
    too far behind it: so memory stays flat over any stream, and whoever restores the order need not wait long.
    """
    check_batch_size(batch_size)
    waiting: dict[Hashable, list[_P]] = {}  # the group that began first stands first
    held = 0
    for picture in framed:
        group = waiting.setdefault(picture.padded, [])
        group.append(picture)
        held += picture.pixels
        if len(group) == batch_size:
            held -= sum(member.pixels for member in group)
            yield waiting.pop(picture.padded)
        while waiting and (held > MOST_PIXELS or picture.number - _oldest(waiting)[0].number >= LONGEST_WAIT):
            group = waiting.pop(_oldest(waiting)[0].padded)
            held -= sum(member.pixels for member in group)
            yield group
    yield from waiting.values()


def _oldest(waiting: dict[Hashable, list[_P]]) -> list[_P]:
    return next(iter(waiting.values()))


def batch_of(group: Sequence[Framed]) -> tuple[Picture, NDArray[np.int64]]:
    """Pictures that are padded alike as a network takes them: images [B, H, W, 3], and their valid sizes [B, 2]."""
    sizes = np.array([picture.image.shape[:2] for picture in group], np.int64)
    return stack_padded([picture.image for picture in group], group[0].padded), sizes


class PictureModel(Generic[_R]):
    """What detectors and segmenters share, trained or exported: pictures of any size through padded batches.

    ``frame``, ``look`` and ``result`` are its steps, which servers take one by one.
    """

    settings: Any

    def frame(self, number: int, picture: Picture) -> Any:
        """A picture [H, W, 3] at the size of the network's input; its number is the place in the stream."""
        return frame(number, picture, self.settings.input)

    def look(self, group: Sequence[Any]) -> Any:
        """What the network finds in framed pictures that are padded alike."""
        raise NotImplementedError

    def result(self, picture: Any, found: Any, row: int) -> _R:
        """What ``look`` found in one of its pictures, in the picture's own pixels, as numpy arrays."""
        result: _R = found.unframe(picture, row)
        return result

    def finished(self, result: _R) -> _R:
        """A result as ``predict`` gives it."""
        return result

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, _R]]:
        """All that the network puts out, of whatever score, for metrics and comparisons: over a stream, as numpy.

        Args:
            images: anything that ``read_image`` takes.
            batch_size: at most so many at once.

        Yields:
            (place in the stream, what is found), in the order in which batches fill.
        """
        for group in batches_of_equal_size(framed_ahead(self.frame, images), batch_size):
            found = self.look(group)
            for row, picture in enumerate(group):
                yield picture.number, self.result(picture, found, row)


class PictureDetector(PictureModel[Detections]):
    """``predict`` of whatever has ``detect_arrays`` and settings: trained and exported detectors."""

    task = "detection"
    detect_arrays: Callable[..., FoundArrays]
    """(images [B, H, W, 3] uint8, sizes [B, 2]) -> what is found."""

    def look(self, group: Sequence[Any]) -> FoundArrays:
        return self.detect_arrays(*batch_of(group))

    def predict(
        self, images: Any, batch_size: int = 8, threshold: float | None = None
    ) -> Detections | list[Detections]:
        """Detect in pictures.

        Args:
            images: a path, the bytes of a file, a Pillow image, a uint8 array [H, W, 3] or a uint8 tensor [3, H, W],
                of any size; or a sequence of these.
            batch_size: at most so many at once.
            threshold: the least score, 0 for all that the network puts out; by default each class's own, if the model
                stores them, or 0.5.

        Returns:
            One result for one picture, a list for a sequence, in the picture's pixels: tensors on the CPU, of exported
            models numpy arrays.

        Raises:
            InputError: something is no picture, and the message names it; or the threshold is no score.
        """
        least = thresholds_by_class(self.settings, threshold)

        def find(pictures: list[Any]) -> list[Detections]:
            found = dict(self.predict_each(pictures, batch_size))
            return [self.finished(replace(found[n].above(least), source=picture)) for n, picture in enumerate(pictures)]

        return answered(images, find)
