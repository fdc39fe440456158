"""A classifier in any engine: the same ``predict`` as the trained model."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from backbones.classification import PictureClassifier
from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session


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
