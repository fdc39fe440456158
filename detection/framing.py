"""From pictures of any size to padded batches, and from boxes in a batch back to the pictures.

Every detector, eager or exported, predicts through ``predict_pictures``. Numpy and pillow only. A picture is padded to
its own size rounded up, and shares a batch only with pictures of the same padded size, so what is found in it
never depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture, Size, answered, fit_size, padded_size, read_image, resize, stack_padded
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


Detect = Callable[[Picture, NDArray[np.int64]], FoundArrays]
"""(images [B, H, W, 3] uint8, sizes [B, 2]) -> what is found."""


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


def framed_ahead(make: Callable[[int, Picture], _P], pictures: Iterable[Any]) -> Iterator[_P]:
    """``make(place, picture)`` of a stream of anything that ``read_image`` takes, by threads that run ahead."""

    def read(item: tuple[int, Any]) -> _P:
        return make(item[0], read_image(item[1]))

    return map_ahead(read, enumerate(pictures), WORKERS)


def batches_of_equal_size(framed: Iterable[_P], batch_size: int) -> Iterator[list[_P]]:
    """Groups of at most ``batch_size`` pictures with the same padded size; each leaves as soon as it is full.

    The group that began first leaves before, if the waiting pictures become too many pixels, or if the last one came
    too far behind it: so memory stays flat over any stream, and whoever restores the order need not wait long.
    """
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


def predict_pictures(
    detect: Detect, pictures: Iterable[Any], settings: InputSettings, batch_size: int
) -> Iterator[tuple[int, Detections]]:
    """Detect in pictures of any size, in the order in which batches fill.

    Args:
        detect: the detector on a padded batch.
        pictures: anything that ``read_image`` takes.
        settings: the size of the network's input.
        batch_size: at most so many pictures at once.

    Yields:
        The picture's place in the sequence, and its detections as numpy arrays in its own pixels.
    """

    def make(number: int, picture: Picture) -> Framed:
        return frame(number, picture, settings)

    for group in batches_of_equal_size(framed_ahead(make, pictures), batch_size):
        found = detect(*batch_of(group))
        for row, picture in enumerate(group):
            yield picture.number, unframe(picture, found, row)


def batch_of(group: Sequence[Framed]) -> tuple[Picture, NDArray[np.int64]]:
    """Pictures that are padded alike as a network takes them: images [B, H, W, 3], and their valid sizes [B, 2]."""
    sizes = np.array([picture.image.shape[:2] for picture in group], np.int64)
    return stack_padded([picture.image for picture in group], group[0].padded), sizes


def predict_in_order(
    predict_each: Callable[[Iterable[Any], int], Iterator[tuple[int, Detections]]],
    images: Any,
    settings: DetectorSettings,
    batch_size: int,
    threshold: float | None,
    finish: Callable[[Detections], Detections] = lambda found: found,
) -> Detections | list[Detections]:
    """What every detector's ``predict`` gives: what counts as found, one result for one picture, a list for several.

    Args:
        predict_each: the detector's.
        images: what ``picture_list`` takes.
        settings: the detector's.
        batch_size: at most so many pictures at once.
        threshold: as ``thresholds_by_class`` has it.
        finish: applied to each result.
    """
    least = thresholds_by_class(settings, threshold)

    def find(pictures: list[Any]) -> list[Detections]:
        found = dict(predict_each(pictures, batch_size))
        return [finish(replace(found[number].above(least), source=picture)) for number, picture in enumerate(pictures)]

    return answered(images, find)


def unframe(picture: Framed, found: FoundArrays, row: int) -> Detections:
    """Drop the padding, scale boxes back to the picture, and paste masks into it."""
    real = found.scores[row] > 0
    height, width = picture.image.shape[:2]
    scale = np.array([picture.original[1] / width, picture.original[0] / height] * 2, np.float32)
    limits = np.array(picture.original[::-1] * 2, np.float32)
    boxes = np.minimum(found.boxes[row, real] * scale, limits)
    masks = None
    if found.masks is not None:
        grids = found.masks[row, real].astype(np.float32)
        frames = whole_pixel_boxes(boxes, grids.shape[-1]) if found.whole_pixels else boxes
        masks = paste(grids, frames, picture.original)
    labels = found.labels[row, real].astype(np.int64)
    scores = found.scores[row, real]
    return Detections(boxes, scores, labels, masks, found.classes, found.category_ids, picture.original)
