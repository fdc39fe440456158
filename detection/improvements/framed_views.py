"""Pictures framed at several sizes, for detectors that look at each more than once. Numpy and pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backbones.errors import InputError
from backbones.images import Picture, Size
from detection.framing import FoundArrays, Framed, PictureDetector, batch_of, frame
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


@dataclass(frozen=True)
class FramedViews:
    """A picture at every size that is wanted, the detector's own first: what is found is in its pixels."""

    frames: tuple[Framed, ...]

    @property
    def number(self) -> int:
        return self.frames[0].number

    @property
    def image(self) -> Picture:
        return self.frames[0].image

    @property
    def original(self) -> Size:
        return self.frames[0].original

    @property
    def padded(self) -> tuple[Size, ...]:
        return tuple(framed.padded for framed in self.frames)

    @property
    def pixels(self) -> int:
        return sum(framed.pixels for framed in self.frames)


class ViewsDetector(PictureDetector):
    """A detector, trained or exported, whose ``detect_arrays`` takes lists: a batch and valid sizes at each size."""

    views: ViewSettings

    def frame(self, number: int, picture: Picture) -> FramedViews:
        own = self.settings.input
        sides = self.views.sides(own.shorter)
        return FramedViews(tuple(frame(number, picture, input_at(own, side)) for side in sides))

    def look(self, group: Sequence[FramedViews]) -> FoundArrays:
        pairs = [batch_of(frames) for frames in zip(*(picture.frames for picture in group), strict=True)]
        return self.detect_arrays([images for images, _ in pairs], [sizes for _, sizes in pairs])


def input_at(own: InputSettings, side: int) -> InputSettings:
    """The network's input at another shorter side; the limit on the longer one grows with it."""
    return replace(own, shorter=side, longer=max(side, round(own.longer * side / own.shorter)))
