"""What every classification data set offers, in memory or on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture


class LabelledPictures(Protocol):
    """Pictures of any size with their labels."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N], indices into ``classes``."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""

    def picture(self, number: int) -> Picture:
        """[H, W, 3] uint8 RGB.

        Raises:
            InputError: it cannot be read; the message names it.
        """


class EncodedPictures(LabelledPictures, Protocol):
    """Pictures that lie in files."""

    def content(self, number: int) -> bytes:
        """The bytes of a picture's file."""

    def name(self, number: int) -> str:
        """What errors call it."""


def pictures_of(data: LabelledPictures) -> Iterator[Picture]:
    """Every picture, in order."""
    return (data.picture(number) for number in range(len(data.labels)))
