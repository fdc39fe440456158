"""A detector in any engine: the same ``predict`` as the trained model, with numpy arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session
from detection.detections import Detections
from detection.framing import FoundArrays, batch_of, frame, predict_in_order, predict_pictures, unframe
from detection.settings import DetectorSettings

logger = logging.getLogger("shortcut")


class DetectorRuntime:
    """An exported detector.

    Args:
        session: the engine, with inputs ``images`` and ``sizes``.
        metadata: from the export.
    """

    task = "detection"

    def __init__(self, session: Session, metadata: ModelMetadata) -> None:
        self.session = session
        self.metadata = metadata
        self.settings = DetectorSettings.from_dict(metadata.architecture)
        self.classes = metadata.classes

    def predict(
        self, images: Any, batch_size: int = 8, threshold: float | None = None
    ) -> Detections | list[Detections]:
        """As ``detection.detector.Detector.predict``, with numpy arrays."""
        return predict_in_order(self.predict_each, images, self.settings, batch_size, threshold)

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, Detections]]:
        """All that the network puts out, of whatever score: (place in the stream, detections), as batches fill."""
        return predict_pictures(self.detect_arrays, images, self.settings.input, batch_size)

    def detect_arrays(self, images: Picture, sizes: NDArray[np.int64]) -> FoundArrays:
        """One padded batch [B, H, W, 3] with valid sizes [B, 2] -> boxes, scores, labels in its pixels."""
        return self._found({"images": images, "sizes": sizes})

    def frame(self, number: int, picture: Picture) -> Any:
        """A picture [H, W, 3] at the size of the network's input. With ``look`` and ``result``: for servers."""
        return frame(number, picture, self.settings.input)

    def look(self, group: Sequence[Any]) -> FoundArrays:
        """What the network finds in framed pictures that are padded alike."""
        return self.detect_arrays(*batch_of(group))

    def result(self, picture: Any, found: FoundArrays, row: int) -> Detections:
        """What was found in one of them, in its own pixels."""
        return unframe(picture, found, row)

    def _found(self, inputs: dict[str, NDArray[Any]]) -> FoundArrays:
        found = self.session.run(inputs)
        if not found["exact"].all():
            logger.warning(
                "suppression did not settle for %d of %d images", (~found["exact"]).sum(), len(found["exact"])
            )
        return FoundArrays.of(self.settings, found["boxes"], found["scores"], found["labels"], found.get("masks"))
