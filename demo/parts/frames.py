"""The frames of a short video, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from backbones.errors import InputError
from backbones.images import Picture, fit_size, resize
from demo.safety.limits import VIDEO_PIXELS, VIDEO_RATE, Limits
from demo.safety.uploads import Upload
from detection.prediction.video import Sampling, Video

_LONGEST_SIDE = 1280
"""Larger frames are reduced, so that drawing and writing keep up with the model."""


@dataclass(frozen=True)
class ShortVideo:
    """A video of which only the beginning is looked at.

    Attributes:
        name: for people.
        rate: frames in a second that are looked at.
        expected: about how many frames that makes.
        cut: whether more follows, as far as the file says.
    """

    name: str
    rate: Fraction
    expected: int
    cut: bool
    video: Video
    seconds: float

    def frames(self) -> Iterator[tuple[float, Picture]]:
        """(seconds from the start, picture [h, w, 3]).

        Raises:
            InputError: not one frame can be read, or they are too large.
        """
        count = 0
        for frame in self.video.frames():
            if frame.time >= self.seconds:
                return
            if frame.raw.width * frame.raw.height > VIDEO_PIXELS:
                raise InputError(f"{self.name}: frames of more than {VIDEO_PIXELS / 1e6:g} megapixels are not taken")
            picture = self.video.convert(frame)
            height, width = picture.shape[:2]
            if max(height, width) > _LONGEST_SIDE:
                short = max(1, round(min(height, width) * _LONGEST_SIDE / max(height, width)))
                picture = resize(picture, fit_size((height, width), short, _LONGEST_SIDE))
            yield frame.time, picture
            count += 1
        if self.video.fault and not count:
            raise InputError(f"{self.name}: not a video that can be read")


@contextmanager
def short_video(upload: Upload, limits: Limits, rate: float = VIDEO_RATE) -> Iterator[ShortVideo]:
    """An uploaded video; closed when the block is left.

    Raises:
        InputError: no video in a format that is read, or PyAV is not installed.
    """
    if upload.path.stat().st_size > limits.file_bytes:
        raise InputError(f"{upload.name}: at most {limits.file_bytes / 1e6:g} MB are taken")
    try:
        video = Video(upload.path, Sampling(rate=rate))
    except InputError as error:  # it names the file by its place on the server
        text = str(error)
        raise InputError(text.replace(str(upload.path), upload.name)) from error
    with video:
        most = round(limits.seconds * float(video.given_rate))
        expected = video.expected
        yield ShortVideo(
            upload.name, video.given_rate, min(expected, most) or most, expected > most, video, limits.seconds
        )
