"""A segmenter in any engine: the same ``predict`` as the trained model, with numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session
from detection.framing import Framed, batch_of, frame
from detection.segmentation.framing import segment_in_order, segment_pictures, unframe_labels
from detection.segmentation.maps import SegmentationMap
from detection.segmentation.settings import SegmenterSettings


class SegmenterRuntime:
    """An exported segmenter.

    Args:
        session: the engine, with inputs ``images`` and ``sizes``.
        metadata: from the export.
    """

    task = "segmentation"

    def __init__(self, session: Session, metadata: ModelMetadata) -> None:
        self.session = session
        self.metadata = metadata
        self.settings = SegmenterSettings.from_dict(metadata.architecture)
        self.classes = metadata.classes

    def predict(self, images: Any, batch_size: int = 8) -> SegmentationMap | list[SegmentationMap]:
        """As ``Segmenter.predict``, with numpy arrays."""
        return segment_in_order(self.predict_each, images, batch_size)

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, SegmentationMap]]:
        """The same over a stream, in the order in which batches fill: (place in the stream, labels)."""
        return segment_pictures(self.segment_arrays, images, self.settings.input, batch_size)

    def segment_arrays(self, images: Picture, sizes: NDArray[np.int64]) -> SegmentationMap:
        """One padded batch [B, H, W, 3] with valid sizes [B, 2] -> labels and scores [B, H, W]."""
        found = self.session.run({"images": images, "sizes": sizes})
        return SegmentationMap(found["labels"].astype(np.uint8), found["scores"], self.classes)

    def frame(self, number: int, picture: Picture) -> Framed:
        """A picture [H, W, 3] at the size of the network's input. With ``look`` and ``result``: for servers."""
        return frame(number, picture, self.settings.input)

    def look(self, group: Sequence[Framed]) -> SegmentationMap:
        """Labels of framed pictures that are padded alike."""
        return self.segment_arrays(*batch_of(group))

    def result(self, picture: Framed, found: SegmentationMap, row: int) -> SegmentationMap:
        """Those of one of them, at its own size."""
        return unframe_labels(picture, found, row)
