"""A classifier in any engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.convention import InputConvention
from backbones.framing import frame_for_classifier
from backbones.images import Picture, read_image
from deploy.runtimes.session import Session
from detection.framing import Framed


class ClassifierRuntime:
    """An exported classifier.

    Args:
        session: the engine, with input ``images``.
        metadata: from the export.
    """

    def __init__(self, session: Session, metadata: dict[str, Any]) -> None:
        self.session = session
        self.metadata = metadata
        self.convention = InputConvention.from_dict(metadata["input"])
        self.classes: tuple[str, ...] = tuple(metadata["classes"])

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

    def frame(self, number: int, picture: Picture) -> Framed:
        """A picture [H, W, 3] as the network takes it. With ``look`` and ``result``: for servers."""
        image = frame_for_classifier(picture, self.convention)
        return Framed(number, image, (picture.shape[0], picture.shape[1]), (image.shape[0], image.shape[1]))

    def look(self, group: Sequence[Framed]) -> NDArray[np.float32]:
        """Probabilities [B, K] of framed pictures of one size."""
        return probabilities(self.logits(np.stack([picture.image for picture in group])))

    def result(self, picture: Framed, found: NDArray[np.float32], row: int) -> NDArray[np.float32]:
        """Those of one of them, [K]."""
        own: NDArray[np.float32] = found[row]
        return own


def probabilities(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Logits [N, K] -> softmax over K."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float32)
