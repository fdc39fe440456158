"""Pictures and videos through a detector: a stream, of which little is held at a time.

Reading and drawing run in threads, before and behind the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from backbones.errors import InputError
from backbones.images import Picture, read_image
from backbones.protocols.reading import map_ahead
from backbones.running.atomic_write import atomic_path
from detection.prediction.copies import Copies
from detection.prediction.listings import Listing, View
from detection.prediction.sources import Source
from detection.prediction.video import Frame, Sampling, Video, VideoWriter

NO_PICTURE: Picture = np.zeros((0, 0, 3), np.uint8)


class Predictor(Protocol):
    """A detector or a segmenter, trained or exported."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def predict_each(self, images: Any, batch_size: int = 8) -> Iterator[tuple[int, Any]]: ...


@dataclass(frozen=True)
class Settings:
    """How files are looked at.

    Attributes:
        thresholds: the least score of each class; None where every pixel has one, and nothing is left out.
        max_detections: at most so many of each picture; None for as many as the model gives.
        batch_size: pictures at once.
        workers: threads that read, and as many that draw.
        sampling: which frames of videos.
    """

    thresholds: Sequence[float] | None
    max_detections: int | None = None
    batch_size: int = 8
    workers: int = 2
    sampling: Sampling = field(default_factory=Sampling)


@dataclass
class Outcome:
    """What a run has done so far.

    Attributes:
        pictures, frames: how many.
        objects: and how many in them; None where none are looked for.
        faults: what could not be read, or only in part.
    """

    pictures: int = 0
    frames: int = 0
    objects: int | None = 0
    faults: list[InputError] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Pictures and frames."""
        return self.pictures + self.frames

    def __str__(self) -> str:
        looked = [f"{self.pictures} pictures"] if self.pictures or not self.frames else []
        looked += [f"{self.frames} frames"] if self.frames else []
        found = f"{self.objects} objects in " if self.objects is not None else ""
        return found + " and ".join(looked)


class _Looked(NamedTuple):
    """A picture or frame on its way from the model to the outputs; its place is that in the stream."""

    place: int
    view: View
    picture: Picture
    found: Any


@dataclass(frozen=True)
class Prediction:
    """A run over files.

    Attributes:
        model: any.
        settings: how.
        copies: how to draw, or None.
        listings: what detections are added to.
        advance: called after each picture or frame, and after a video with the frames that it promised and lacked.
        interrupted: asked between pictures; those that are begun are finished.
        outcome: what has been done.
    """

    model: Predictor
    settings: Settings
    copies: Copies | None
    listings: Sequence[Listing]
    advance: Callable[[int], None] = lambda count: None
    interrupted: Callable[[], bool] = lambda: False
    outcome: Outcome = field(default_factory=Outcome)

    def run(self, sources: Sequence[Source]) -> None:
        """Look at all pictures, then at each video, and add what is found in this order."""
        self._look_at_pictures([source for source in sources if not source.is_video])
        for source in sources:
            if source.is_video and not self.interrupted():
                try:
                    self._look_at_video(source)
                except InputError as fault:
                    self.outcome.faults.append(fault)

    def _look_at_pictures(self, sources: Sequence[Source]) -> None:
        items = ((View(source, picture.shape[:2]), picture) for source, picture in self._readable(sources))
        finished: dict[int, _Looked] = {}
        following = 0
        for looked in map_ahead(self._save, self._detect(items), self.settings.workers):
            finished[looked.place] = looked
            while following in finished:  # batches leave in another order than pictures came
                self._add(finished.pop(following))
                following += 1

    def _readable(self, sources: Sequence[Source]) -> Iterator[tuple[Source, Picture]]:
        for source, picture in map_ahead(_read, sources, self.settings.workers):
            if self.interrupted():
                return
            if isinstance(picture, InputError):
                self.outcome.faults.append(picture)
                self.advance(1)
            else:
                yield source, picture

    def _look_at_video(self, source: Source) -> None:
        with Video(source.path, self.settings.sampling) as video, ExitStack() as files:

            def convert(frame: Frame) -> tuple[View, Picture]:
                picture = video.convert(frame)
                return View(source, picture.shape[:2], frame.number, frame.time), picture

            writer: VideoWriter | None = None
            done = 0
            items = map_ahead(convert, self._until_interrupted(video.frames()), self.settings.workers)
            for looked in map_ahead(self._draw, self._detect(items), self.settings.workers):
                if self.copies is not None:
                    if writer is None:
                        partial = files.enter_context(atomic_path(self.copies.path(source)))
                        writer = files.enter_context(VideoWriter(partial, looked.picture.shape[:2], video.given_rate))
                    writer.add(looked.picture, looked.view.time or 0.0)
                self._add(looked)
                done += 1
            self.advance(max(0, video.expected - done))
        if video.fault:
            self.outcome.faults.append(video.fault)

    def _until_interrupted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if self.interrupted():
                return
            yield frame

    def _detect(self, items: Iterable[tuple[View, Picture]]) -> Iterator[_Looked]:
        """What is found, in the order in which batches fill."""
        waiting: dict[int, tuple[View, Picture]] = {}

        def pictures() -> Iterator[Picture]:
            for place, item in enumerate(items):
                waiting[place] = item
                yield item[1]

        for place, found in self.model.predict_each(pictures(), self.settings.batch_size):
            if self.settings.thresholds is not None:
                found = found.above(self.settings.thresholds)[: self.settings.max_detections]
            yield _Looked(place, *waiting.pop(place), found)

    def _draw(self, looked: _Looked) -> _Looked:
        if self.copies is None:
            return looked
        return looked._replace(picture=self.copies.draw(looked.picture, looked.found))

    def _save(self, looked: _Looked) -> _Looked:
        """Draw on a picture and save it; its pixels are not needed any longer."""
        if self.copies is not None:
            self.copies.save(looked.view.source, self._draw(looked).picture)
        return looked._replace(picture=NO_PICTURE)

    def _add(self, looked: _Looked) -> None:
        for listing in self.listings:
            listing(looked.view, looked.found)
        if self.outcome.objects is not None:
            self.outcome.objects += len(looked.found)
        if looked.view.source.is_video:
            self.outcome.frames += 1
        else:
            self.outcome.pictures += 1
        self.advance(1)


def _read(source: Source) -> tuple[Source, Picture | InputError]:
    try:
        return source, read_image(source.path)
    except InputError as fault:
        return source, fault
