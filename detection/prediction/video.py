"""Videos, frame by frame, by PyAV (FFmpeg's libraries): read as a stream, and written as drawn frames come."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from backbones.errors import InputError
from backbones.extras import require
from backbones.images import Picture, Size

MAX_FRAME_PIXELS = 40_000_000
"""Larger frames are refused before decoding; 8K has 33 million."""
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,gif"
"""FFmpeg's parsers that are open to files of strangers; its playlists, which may name other files, are not."""
ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""The best that FFmpeg was built with is taken."""
_TICKS = 60_000  # of a second; MPEG-4 allows no finer ones
_THREADS = 4
_FASTEST = Fraction(240)  # frames in a second that an encoder is told of
_TOLERATED_GAP = 0.5  # seconds between the last frame and the end that the file states
_BT709 = 1  # FFmpeg's number for the matrix, primaries and transfer of HD video, which players assume


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are looked at.

    Attributes:
        every: each so many-th.
        rate: at most so many in a second; None for all.
    """

    every: int = 1
    rate: float | None = None


@dataclass(frozen=True)
class Frame:
    """One frame of a video, not yet converted.

    Attributes:
        number: its place among all frames, from 0.
        time: seconds from the first frame.
        raw: as PyAV gives it.
    """

    number: int
    time: float
    raw: Any


class Video:
    """A video file to read; close it after use.

    Args:
        path: the file.
        sampling: which frames are given.

    Raises:
        InputError: PyAV is not installed, or the file is no video, damaged at its head, or of huge frames.
    """

    def __init__(self, path: Path, sampling: Sampling) -> None:
        self.path, self.sampling = path, sampling
        self.fault: InputError | None = None
        """After the last frame: what could not be read."""
        self._container, self._stream = _open(path)
        context = self._stream.codec_context
        _refuse_huge(path, context.width, context.height)
        context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        self._stream.thread_type = "AUTO"
        context.thread_count = _THREADS  # each holds a frame
        self._size: Size = (context.height, context.width)

    @property
    def rate(self) -> Fraction:
        """Frames in a second, as the file states them, or 25."""
        return self._stream.average_rate or self._stream.guessed_rate or Fraction(25)

    @property
    def given_rate(self) -> Fraction:
        """About how many frames of a second ``frames`` gives."""
        given = self.rate / self.sampling.every
        return given if self.sampling.rate is None else min(given, Fraction(self.sampling.rate).limit_denominator(1000))

    @property
    def expected(self) -> int:
        """About how many frames ``frames`` will give; 0 if the file does not say."""
        whole = self._stream.frames or round((self._duration() or 0) * self.rate)
        return math.ceil(whole * self.given_rate / self.rate)

    def frames(self) -> Iterator[Frame]:
        """The chosen frames in order. Where the file is damaged it goes on behind, and ``fault`` says so."""
        damaged, number, end, slot = 0, -1, 0.0, -1
        first: float | None = None
        try:
            for packet in self._container.demux(self._stream):
                try:
                    decoded = packet.decode()
                except _av().error.InvalidDataError:
                    damaged += 1
                    continue
                for raw in decoded:
                    _refuse_huge(self.path, raw.width, raw.height)
                    damaged += bool(raw.is_corrupt)
                    number += 1
                    time = number / float(self.rate) if raw.time is None else raw.time
                    first = time if first is None else first
                    end = time - first + 1 / float(self.rate)
                    if self._slot(number, time - first) > slot:
                        slot = self._slot(number, time - first)
                        yield Frame(number, time - first, raw)
        except _av().error.FFmpegError as error:
            self.fault = InputError(f"{self.path}: cannot be read beyond {end:.1f} s ({error.strerror})")
        except InputError as error:
            self.fault = error
        self.fault = self.fault or self._shortfall(number + 1, damaged, end)

    def _slot(self, number: int, time: float) -> int:
        """A number that grows where a frame is to be given."""
        slot = number // self.sampling.every
        return slot if self.sampling.rate is None else min(slot, math.floor(time * self.sampling.rate + 1e-6))

    def convert(self, frame: Frame) -> Picture:
        """A frame as RGB [H, W, 3], turned as the file says, and as large as its head says."""
        height, width = self._size
        pixels = frame.raw.to_ndarray(format="rgb24", width=width, height=height)
        turns = round(frame.raw.rotation / 90)
        return np.ascontiguousarray(np.rot90(pixels, turns))

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def _duration(self) -> float | None:
        """Seconds that the file states for its pictures."""
        stream = self._stream
        if stream.frames and self._container.format.name == "avi":  # whose duration FFmpeg guesses from what is there
            return float(stream.frames / self.rate)
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        stated = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""), re.ASCII)  # Matroska's
        if stated:
            return int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3])
        alone = len(self._container.streams) == 1  # else it may be that of the sound
        return self._container.duration / 1e6 if alone and self._container.duration else None

    def _shortfall(self, count: int, damaged: int, end: float) -> InputError | None:
        stated = self._duration()
        if count == 0:
            return InputError(f"{self.path}: no frame can be decoded")
        if stated is not None and end < stated - max(_TOLERATED_GAP, 2 / float(self.rate)):
            return InputError(
                f"{self.path}: ends after {end:.1f} of {stated:.1f} s (cut off?); {count} frames could be read"
            )
        if damaged:
            return InputError(f"{self.path}: {damaged} damaged places; {count} frames could be read")
        return None


class VideoWriter:
    """An MP4 file, H.264 where FFmpeg has an encoder for it; it is complete when the block is left.

    Args:
        path: to write to.
        size: (height, width) of the frames; odd ones are padded by a row or column.
        rate: frames in a second, for the encoder's choices; each frame is shown at its own time.
    """

    def __init__(self, path: Path, size: Size, rate: Fraction) -> None:
        av = _av()
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        encoder = next(name for name in ENCODERS if name in av.codecs_available)
        quality = {"crf": "20", "preset": "veryfast"} if encoder == "libx264" else {}
        self._stream = self._container.add_stream(encoder, rate=min(rate, _FASTEST), options=quality)
        context = self._stream.codec_context
        context.height, context.width = (edge + edge % 2 for edge in size)
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, _TICKS)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        if encoder != "libx264":
            context.bit_rate = max(1_000_000, round(0.15 * size[0] * size[1] * float(rate)))
        self._next = 0

    def add(self, picture: Picture, time: float) -> None:
        """One frame [H, W, 3] and when it is shown, in seconds."""
        av = _av()
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709)
        frame.pts = max(self._next, round(time * _TICKS))  # times of damaged files may stand still
        frame.time_base = Fraction(1, _TICKS)
        self._next = frame.pts + 1
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what the encoder still holds, and the index."""
        if error is None:
            self._container.mux(self._stream.encode())
        self._container.close()


def expected_frames(path: Path, sampling: Sampling) -> int:
    """About how many frames a video will give; 0 if that is not known."""
    try:
        with Video(path, sampling) as video:
            return video.expected
    except InputError:
        return 0


def _open(path: Path) -> tuple[Any, Any]:
    av = _av()
    try:
        container = av.open(f"file:{path}", options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error.strerror or error})") from error
    stream = container.streams.best("video")
    if stream is None or not stream.codec_context.width:
        container.close()
        raise InputError(f"{path}: holds no video")
    return container, stream


def _refuse_huge(path: Path, width: int, height: int) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise InputError(
            f"{path}: {width} x {height} pixels, more than the {MAX_FRAME_PIXELS} of a frame that are read"
        )


def _av() -> Any:
    require("av")
    import av

    return av
