"""What a segmenter finds, torch or numpy alike, and how every segmenter is asked. Numpy and pillow only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backbones.images import Picture, answered, resize_nearest
from backbones.metadata import refuse_threshold
from detection.drawn_result import DrawnResult
from detection.framing import Framed, PictureModel, batch_of

_LISTED = 8
"""Classes that a representation names."""


@dataclass(frozen=True, repr=False)
class SegmentationMap(DrawnResult):
    """The class of every pixel of one picture [H, W], or of a padded batch [B, H, W].

    Attributes:
        labels: uint8 in 0..K-1.
        scores: float32 in 0..1, the probability of that label.
        classes: names by label, where a model found them.
        source: what ``predict`` was given: a path, bytes, an array, ...; not copied, and not pickled but for paths.
    """

    labels: Any
    scores: Any
    classes: tuple[str, ...] = ()
    source: Any = field(default=None, compare=False)

    def unframe(self, picture: Framed, row: int) -> SegmentationMap:
        """That of one picture of a batch: without the padding, every pixel as the nearest of the network's input."""
        height, width = picture.image.shape[:2]
        labels, scores = (part[row, :height, :width] for part in (self.labels, self.scores))
        labels, scores = (resize_nearest(part, picture.original) for part in (labels, scores))
        return SegmentationMap(labels, scores, self.classes)

    def to_json(self, classes: Sequence[str] = ()) -> dict[str, float]:
        """The part of the pixels that each class has, of those that are there, in the order of the labels.

        Args:
            classes: names by label; by default the model's, or the labels' numbers.
        """
        known = classes or self.classes
        counts = np.bincount(np.asarray(self.labels).reshape(-1)).tolist()
        shares = ((label, round(count / sum(counts), 6)) for label, count in enumerate(counts) if count)
        return {known[label] if known else str(label): share for label, share in shares}

    def draw(self, picture: Any = None) -> Picture:
        from detection.segmentation.drawing import draw_labels

        labels = np.asarray(self.labels)
        return draw_labels(self._picture(picture, labels.shape), labels, self.classes)

    def __repr__(self) -> str:
        shares = sorted(self.to_json().items(), key=lambda item: -item[1])
        listed = [f"{name} {share:.0%}" for name, share in shares[:_LISTED]] + ["..."] * (len(shares) > _LISTED)
        extent = " x ".join(map(str, self.labels.shape))
        return f"SegmentationMap({', '.join(listed)}; {extent})"


class PictureSegmenter(PictureModel[SegmentationMap]):
    """``predict`` of whatever has ``segment_arrays`` and settings: trained and exported segmenters."""

    task = "segmentation"
    segment_arrays: Callable[..., SegmentationMap]
    """(images [B, H, W, 3] uint8, sizes [B, 2]) -> labels and scores [B, H, W] as numpy arrays."""

    def look(self, group: Sequence[Any]) -> SegmentationMap:
        return self.segment_arrays(*batch_of(group))

    def predict(
        self, images: Any, batch_size: int = 8, threshold: None = None
    ) -> SegmentationMap | list[SegmentationMap]:
        """Label the pixels of pictures.

        Args:
            images: a path, the bytes of a file, a Pillow image, a uint8 array [H, W, 3] or a uint8 tensor [3, H, W],
                of any size; or a sequence of these.
            batch_size: at most so many at once.
            threshold: none, as every pixel has its label; only detectors take one.

        Returns:
            One result for one picture, a list for a sequence: labels and scores [H, W] at the picture's own size,
            tensors on the CPU, of exported models numpy arrays.

        Raises:
            InputError: something is no picture, and the message names it; or there is a threshold.
        """
        refuse_threshold(self.task, threshold)

        def segment(pictures: list[Any]) -> list[SegmentationMap]:
            found = dict(self.predict_each(pictures, batch_size))
            return [self.finished(replace(found[n], source=picture)) for n, picture in enumerate(pictures)]

        return answered(images, segment)
