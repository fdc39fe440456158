"""What a classifier says of one picture, and how every classifier is asked. Numpy and pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.convention import InputConvention
from backbones.framing import frame_for_classifier
from backbones.images import answered, check_batch_size, name_of, read_image
from backbones.metadata import refuse_threshold
from backbones.protocols.scoring import Logits, view_area

TOP = 5
"""Classes that are listed, if nobody says how many."""


@dataclass(frozen=True, repr=False, eq=False)
class Classification:
    """What a classifier says of one picture; ``np.asarray`` of it gives the probabilities, of a list of them [N, K].

    Attributes:
        probabilities: [K] float32, which add up to 1.
        classes: names in their order.
    """

    probabilities: NDArray[np.float32]
    classes: tuple[str, ...] = ()

    def top(self, count: int = TOP) -> list[tuple[str, float]]:
        """The most likely classes with their probabilities, best first; of equals the first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count].tolist()
        return [
            (self.classes[label] if self.classes else str(label), float(self.probabilities[label])) for label in best
        ]

    def to_json(self, count: int = TOP) -> list[dict[str, Any]]:
        """``top`` as dictionaries: class, and score rounded to four digits."""
        return [{"class": name, "score": round(score, 4)} for name, score in self.top(count)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.probabilities, dtype, copy=copy)

    def __repr__(self) -> str:
        named = ", ".join(f"{name} {score:.2f}" for name, score in self.top())
        return f"Classification({named}{', ...' if len(self.probabilities) > TOP else ''})"


class _Asked(Protocol):
    """What is needed of a classifier."""

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def convention(self) -> InputConvention: ...

    @property
    def logits(self) -> Logits: ...


class PictureClassifier:
    """``predict`` of whatever has logits, a convention and classes: trained and exported classifiers."""

    def predict(
        self: _Asked, images: Any, batch_size: int = 8, threshold: None = None
    ) -> Classification | list[Classification]:
        """Name what pictures show.

        Args:
            images: a path, the bytes of a file, a Pillow image, a uint8 array [H, W, 3] or a uint8 tensor [3, H, W],
                of any size; or a sequence of these.
            batch_size: at most so many at once; of networks without a size of their own, as many pixels as so many
                pictures of 224 x 224 have.
            threshold: none, as every class has its probability; only detectors take one.

        Returns:
            One result for one picture, a list for a sequence.

        Raises:
            InputError: something is no picture, and the message names it; or there is a threshold.
        """
        refuse_threshold("classification", threshold)
        check_batch_size(batch_size)

        def classify(pictures: list[Any]) -> list[Classification]:
            alike: dict[tuple[int, ...], list[int]] = {}
            framed = [
                frame_for_classifier(read_image(picture, name=name_of(picture, place)), self.convention)
                for place, picture in enumerate(pictures)
            ]
            for place, picture in enumerate(framed):
                alike.setdefault(picture.shape, []).append(place)
            rows: dict[int, NDArray[np.float32]] = {}
            for shape, places in alike.items():
                at_once = max(1, batch_size * view_area(self.convention) // (shape[0] * shape[1]))
                for start in range(0, len(places), at_once):
                    chosen = places[start : start + at_once]
                    found = probabilities(self.logits(np.stack([framed[place] for place in chosen])))
                    rows |= zip(chosen, found, strict=True)
            return [Classification(rows[place], tuple(self.classes)) for place in range(len(pictures))]

        return answered(images, classify)


def probabilities(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Logits [N, K] -> softmax over K."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True), np.float32)
