"""A classifier in any engine: the same ``predict`` as the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.classification import Classification, PictureClassifier, probabilities
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session
from detection.framing import Framed


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
