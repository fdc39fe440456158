"""A detector that was exported to look at each picture at several sizes, in any engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.detector import DetectorRuntime
from deploy.runtimes.session import Session
from detection.detections import Detections
from detection.framing import FoundArrays, unframe
from detection.improvements.framed_views import FramedViews, ViewSettings, batches_of_views, frame_views, predict_views


def input_names(side: int, sides: Sequence[int]) -> tuple[str, str]:
    """The names of the inputs at one shorter side, pixels and valid sizes; the first side's have no number."""
    return ("images", "sizes") if side == sides[0] else (f"images_{side}", f"sizes_{side}")


class ViewsRuntime(DetectorRuntime):
    """An exported detector with ``predict`` as any other, though it takes a batch at each size.

    Args:
        session: the engine, with inputs ``images``, ``sizes``, ``images_800``, ``sizes_800``, ...
        metadata: from the export.
    """

    def __init__(self, session: Session, metadata: ModelMetadata) -> None:
        super().__init__(session, metadata)
        assert metadata.exported is not None and metadata.exported.views is not None
        values = metadata.exported.views
        self.views = ViewSettings(tuple(values["maxout"]), tuple(values["scales"]), values["flip"])
        self.sides = self.views.sides(self.settings.input.shorter)

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, Detections]]:
        return predict_views(self.detect_views, images, self.settings.input, self.views, batch_size)

    def detect_views(self, images: Sequence[Picture], sizes: Sequence[NDArray[np.int64]]) -> FoundArrays:
        """A batch at each of ``sides`` -> boxes, scores, labels in pixels of the first."""
        batches: dict[str, NDArray[Any]] = {}
        for side, pixels, valid in zip(self.sides, images, sizes, strict=True):
            first, second = input_names(side, self.sides)
            batches |= {first: pixels, second: valid}
        return self._found(batches)

    def frame(self, number: int, picture: Picture) -> FramedViews:
        return frame_views(number, picture, self.settings.input, self.views)

    def look(self, group: Sequence[FramedViews]) -> FoundArrays:
        return self.detect_views(*batches_of_views(group))

    def result(self, picture: FramedViews, found: FoundArrays, row: int) -> Detections:
        return unframe(picture.frames[0], found, row)
