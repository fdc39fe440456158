"""Pictures of any size to padded batches for a segmenter, and labels back to the pictures. Numpy and pillow only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture, answered, read_image, resize_nearest
from detection.framing import Framed, batch_of, batches_of_equal_size, frame
from detection.segmentation.maps import SegmentationMap
from detection.settings import InputSettings

Segment = Callable[[Picture, NDArray[np.int64]], SegmentationMap]
"""(images [B, H, W, 3] uint8, sizes [B, 2]) -> labels and scores [B, H, W] as numpy arrays."""


def segment_pictures(
    segment: Segment, pictures: Iterable[Any], settings: InputSettings, batch_size: int
) -> Iterator[tuple[int, SegmentationMap]]:
    """Label the pixels of pictures of any size, in the order in which batches fill.

    Args:
        segment: the segmenter on a padded batch.
        pictures: anything that ``read_image`` takes.
        settings: the size of the network's input.
        batch_size: at most so many pictures at once.

    Yields:
        The picture's place in the sequence, and its labels as numpy arrays at its own size.
    """
    framed = (frame(number, read_image(picture), settings) for number, picture in enumerate(pictures))
    for group in batches_of_equal_size(framed, batch_size):
        found = segment(*batch_of(group))
        for row, picture in enumerate(group):
            yield picture.number, unframe_labels(picture, found, row)


def segment_in_order(
    segment_each: Callable[[Iterable[Any], int], Iterator[tuple[int, SegmentationMap]]],
    images: Any,
    batch_size: int,
    finish: Callable[[SegmentationMap], SegmentationMap] = lambda found: found,
) -> SegmentationMap | list[SegmentationMap]:
    """What every segmenter's ``predict`` gives.

    Args:
        segment_each: its ``predict_each``.
        images: what ``picture_list`` takes.
        batch_size: at most so many pictures at once.
        finish: applied to each result.
    """

    def segment(pictures: list[Any]) -> list[SegmentationMap]:
        found = dict(segment_each(pictures, batch_size))
        return [finish(replace(found[number], source=picture)) for number, picture in enumerate(pictures)]

    return answered(images, segment)


def unframe_labels(picture: Framed, found: SegmentationMap, row: int) -> SegmentationMap:
    """Drop the padding, and give every pixel of the picture what the nearest one of the network's input has."""
    height, width = picture.image.shape[:2]
    labels, scores = (part[row, :height, :width] for part in (found.labels, found.scores))
    labels, scores = (resize_nearest(part, picture.original) for part in (labels, scores))
    return SegmentationMap(labels, scores, found.classes)
