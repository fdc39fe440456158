"""A segmenter in any engine: the same ``predict`` as the trained model, with numpy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session
from detection.segmentation.maps import PictureSegmenter, SegmentationMap
from detection.segmentation.settings import SegmenterSettings


class SegmenterRuntime(PictureSegmenter):
    """An exported segmenter.

    Args:
        session: the engine, with inputs ``images`` and ``sizes``.
        metadata: from the export.
    """

    def __init__(self, session: Session, metadata: ModelMetadata) -> None:
        self.session = session
        self.metadata = metadata
        self.settings = SegmenterSettings.from_dict(metadata.architecture)
        self.classes = metadata.classes

    def segment_arrays(self, images: Picture, sizes: NDArray[np.int64]) -> SegmentationMap:
        """One padded batch [B, H, W, 3] with valid sizes [B, 2] -> labels and scores [B, H, W]."""
        found = self.session.run({"images": images, "sizes": sizes})
        return SegmentationMap(found["labels"].astype(np.uint8), found["scores"], self.classes)
