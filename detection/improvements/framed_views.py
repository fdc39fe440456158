"""Pictures framed at several sizes, for detectors that look at each more than once. Numpy and pillow only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.images import Picture, Size
from detection.detections import Detections
from detection.framing import FoundArrays, Framed, batch_of, batches_of_equal_size, frame, framed_ahead, unframe
from detection.settings import InputSettings


@dataclass(frozen=True)
class ViewSettings:
    """In what ways a picture is looked at.

    Attributes:
        maxout: shorter sides between which each region's features are merged by maximum; empty for one scale.
        scales: shorter sides whose detections are pooled; empty for the detector's own.
        flip: the mirror image too.

    Raises:
        InputError: the views exclude each other.
    """

    maxout: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()
    flip: bool = False

    def __post_init__(self) -> None:
        if self.maxout and self.scales:
            raise InputError("--maxout and --scales are two ways of using several sizes; give one of them")

    def sides(self, own: int) -> tuple[int, ...]:
        """The shorter sides that are wanted, the detector's own first."""
        return (own, *sorted({*self.maxout, *self.scales} - {own}))


DetectViews = Callable[[Sequence[Picture], Sequence[NDArray[np.int64]]], FoundArrays]
"""A batch at each size, images [B, H, W, 3] uint8 and sizes [B, 2] -> what is found, in pixels of the first."""


@dataclass(frozen=True)
class FramedViews:
    """A picture at every size that is wanted, the detector's own first."""

    frames: tuple[Framed, ...]

    @property
    def number(self) -> int:
        return self.frames[0].number

    @property
    def padded(self) -> tuple[Size, ...]:
        return tuple(framed.padded for framed in self.frames)

    @property
    def pixels(self) -> int:
        return sum(framed.pixels for framed in self.frames)


def predict_views(
    detect: DetectViews, pictures: Iterable[Any], settings: InputSettings, views: ViewSettings, batch_size: int
) -> Iterator[tuple[int, Detections]]:
    """As ``detection.framing.predict_pictures``, every picture at all sizes of ``views``."""

    def make(number: int, picture: Picture) -> FramedViews:
        return frame_views(number, picture, settings, views)

    for group in batches_of_equal_size(framed_ahead(make, pictures), batch_size):
        found = detect(*batches_of_views(group))
        for row, picture in enumerate(group):
            yield picture.number, unframe(picture.frames[0], found, row)


def frame_views(number: int, picture: Picture, settings: InputSettings, views: ViewSettings) -> FramedViews:
    """Resize a picture to every size of ``views``."""
    sides = views.sides(settings.shorter)
    return FramedViews(tuple(frame(number, picture, input_at(settings, side)) for side in sides))


def batches_of_views(group: Sequence[FramedViews]) -> tuple[list[Picture], list[NDArray[np.int64]]]:
    """Pictures that are padded alike at every size: a batch at each, images [B, H, W, 3] and valid sizes [B, 2]."""
    pairs = [batch_of(frames) for frames in zip(*(picture.frames for picture in group), strict=True)]
    return [images for images, _ in pairs], [sizes for _, sizes in pairs]


def input_at(own: InputSettings, side: int) -> InputSettings:
    """The network's input at another shorter side; the limit on the longer one grows with it."""
    return replace(own, shorter=side, longer=max(side, round(own.longer * side / own.shorter)))
