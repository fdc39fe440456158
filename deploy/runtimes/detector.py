"""A detector in any engine: the same ``predict`` as the trained model, with numpy arrays."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session
from detection.framing import FoundArrays, PictureDetector
from detection.settings import DetectorSettings

logger = logging.getLogger("shortcut")


class DetectorRuntime(PictureDetector):
    """An exported detector.

    Args:
        session: the engine, with inputs ``images`` and ``sizes``.
        metadata: from the export.
    """

    def __init__(self, session: Session, metadata: ModelMetadata) -> None:
        self.session = session
        self.metadata = metadata
        self.settings = DetectorSettings.from_dict(metadata.architecture)
        self.classes = metadata.classes

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
