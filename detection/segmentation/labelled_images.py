"""Images with a label for every pixel: what every source of segmentation data gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from backbones.images import Labels
from detection.data.annotations import DetectionData


class LabelMaps(Protocol):
    """Labels by an image's place in the data: [H, W] uint8 in 0..K-1, 255 where nothing is known."""

    def __getitem__(self, image: int, /) -> Labels: ...


@dataclass(frozen=True)
class SegmentationData:
    """A split of a data set.

    Attributes:
        images: names, sizes and pictures, and the objects where labels are painted from their masks.
        labels: of each image, at its size.
        classes: names in the order of the labels; 0 is the background.
    """

    images: DetectionData
    labels: LabelMaps
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)
