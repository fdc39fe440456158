"""Exported models in any engine: the same ``predict`` as the trained models, with numpy arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.classification import Classification, PictureClassifier, probabilities
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session
from detection.detections import Detections
from detection.framing import FoundArrays, Framed, batch_of, frame, predict_in_order, predict_pictures, unframe
from detection.improvements.framed_views import FramedViews, ViewSettings, batches_of_views, frame_views, predict_views
from detection.segmentation.framing import segment_in_order, segment_pictures, unframe_labels
from detection.segmentation.maps import SegmentationMap
from detection.segmentation.settings import SegmenterSettings
from detection.settings import DetectorSettings

logger = logging.getLogger("shortcut")


class ClassifierRuntime(PictureClassifier):
    """An exported classifier.

    Args:
        session: the engine, with input ``images``.
        metadata: from the export.
    """

    task = "classification"

    def __init__(self, session: Session, metadata: ModelMetadata) -> None:
        self.session = session
        self.metadata = metadata
        assert metadata.input is not None
        self.convention = metadata.input
        self.classes = metadata.classes

    def logits(self, images: Picture) -> NDArray[Any]:
        """One batch [B, H, W, 3] uint8 -> [B, K]."""
        return self.session.run({"images": images})["logits"]

    def frame(self, number: int, picture: Picture) -> Framed:
        """A picture [H, W, 3] as the network takes it. With ``look`` and ``result``: for servers."""
        image = frame_for_classifier(picture, self.convention)
        return Framed(number, image, (picture.shape[0], picture.shape[1]), (image.shape[0], image.shape[1]))

    def look(self, group: Sequence[Framed]) -> NDArray[np.float32]:
        """Probabilities [B, K] of framed pictures of one size."""
        return probabilities(self.logits(np.stack([picture.image for picture in group])))

    def result(self, picture: Framed, found: NDArray[np.float32], row: int) -> Classification:
        """Those of one of them."""
        return Classification(found[row], self.classes)


class _PaddedRuntime:
    """An exported model that takes padded batches.

    Args:
        session: the engine, with inputs ``images`` and ``sizes``.
        metadata: from the export.
    """

    _kind: type[DetectorSettings | SegmenterSettings]
    settings: Any

    def __init__(self, session: Session, metadata: ModelMetadata) -> None:
        self.session = session
        self.metadata = metadata
        self.settings = self._kind.from_dict(metadata.architecture)
        self.classes = metadata.classes

    def frame(self, number: int, picture: Picture) -> Any:
        """A picture [H, W, 3] at the size of the network's input. With ``look`` and ``result``: for servers."""
        return frame(number, picture, self.settings.input)


class DetectorRuntime(_PaddedRuntime):
    """An exported detector."""

    task = "detection"
    _kind = DetectorSettings
    settings: DetectorSettings

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


class SegmenterRuntime(_PaddedRuntime):
    """An exported segmenter."""

    task = "segmentation"
    _kind = SegmenterSettings
    settings: SegmenterSettings

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

    def look(self, group: Sequence[Framed]) -> SegmentationMap:
        """Labels of framed pictures that are padded alike."""
        return self.segment_arrays(*batch_of(group))

    def result(self, picture: Framed, found: SegmentationMap, row: int) -> SegmentationMap:
        """Those of one of them, at its own size."""
        return unframe_labels(picture, found, row)
