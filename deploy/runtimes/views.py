"""A detector that was exported to look at each picture at several sizes, in any engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from backbones.metadata import ModelMetadata
from deploy.runtimes.detector import DetectorRuntime
from deploy.runtimes.session import Session
from detection.framing import FoundArrays
from detection.improvements.framed_views import ViewsDetector, ViewSettings


def input_names(side: int, sides: Sequence[int]) -> tuple[str, str]:
    """The names of the inputs at one shorter side, pixels and valid sizes; the first side's have no number."""
    return ("images", "sizes") if side == sides[0] else (f"images_{side}", f"sizes_{side}")


class ViewsRuntime(ViewsDetector, DetectorRuntime):
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

    def detect_arrays(self, images: Any, sizes: Any) -> FoundArrays:
        """A batch at each of ``sides``: lists [B, H, W, 3] and [B, 2] -> what is found, in pixels of the first."""
        batches: dict[str, NDArray[Any]] = {}
        for side, pixels, valid in zip(self.sides, images, sizes, strict=True):
            first, second = input_names(side, self.sides)
            batches |= {first: pixels, second: valid}
        return self._found(batches)
