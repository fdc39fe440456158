"""Exported models in any engine: the same ``predict`` as the trained models, with numpy arrays."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.classification import Classification, PictureClassifier, probabilities
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session
from detection.framing import FoundArrays, Framed, PictureDetector
from detection.improvements.framed_views import ViewsDetector, ViewSettings
from detection.segmentation.maps import PictureSegmenter, SegmentationMap
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
        self.settings = self._kind.of(metadata)
        self.classes = metadata.classes


class DetectorRuntime(_PaddedRuntime, PictureDetector):
    """An exported detector."""

    _kind = DetectorSettings

    def detect_arrays(self, images: Picture, sizes: NDArray[np.int64]) -> FoundArrays:
        """One padded batch [B, H, W, 3] with valid sizes [B, 2] -> boxes, scores, labels in its pixels."""
        return self._found({"images": images, "sizes": sizes})

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


class SegmenterRuntime(_PaddedRuntime, PictureSegmenter):
    """An exported segmenter."""

    _kind = SegmenterSettings

    def segment_arrays(self, images: Picture, sizes: NDArray[np.int64]) -> SegmentationMap:
        """One padded batch [B, H, W, 3] with valid sizes [B, 2] -> labels and scores [B, H, W]."""
        found = self.session.run({"images": images, "sizes": sizes})
        return SegmentationMap(found["labels"].astype(np.uint8), found["scores"], self.classes)
