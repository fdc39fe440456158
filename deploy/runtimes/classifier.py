"""A classifier in any engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.framing import frame_for_classifier
from backbones.images import Picture, read_image
from backbones.metadata import ModelMetadata
from deploy.runtimes.session import Session


class ClassifierRuntime:
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

    def predict(self, images: Sequence[Any], batch_size: int = 8) -> NDArray[np.float32]:
        """Probabilities [N, K] for pictures of any size (paths, bytes, Pillow images or uint8 arrays).

        Raises:
            InputError: something is no picture; the message names it.
        """
        framed = [frame_for_classifier(read_image(image), self.convention) for image in images]
        parts = [self.logits(np.stack(framed[i : i + batch_size])) for i in range(0, len(framed), batch_size)]
        return probabilities(np.concatenate(parts))

    def logits(self, images: Picture) -> NDArray[Any]:
        """One batch [B, H, W, 3] uint8 -> [B, K]."""
        return self.session.run({"images": images})["logits"]


def probabilities(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Logits [N, K] -> softmax over K."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float32)
