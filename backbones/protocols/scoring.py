"""From the views of pictures to one row of class scores each, in batches of equal size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from backbones.convention import InputConvention
from backbones.images import Picture, Size

Logits = Callable[[Picture], NDArray[np.floating]]
"""[B, H, W, 3] uint8 -> [B, K]: ``Classifier.logits``, a ``DenseClassifier``'s or a runtime's."""
Scores = NDArray[np.float32]

STANDARD_VIEW = 224 * 224
"""Pixels of the view that batch sizes are stated for."""
_WAITING = 8
"""Views of rare sizes wait for company until they would fill this many batches."""


def mean_scores(
    logits: Logits,
    views: Iterable[Sequence[Picture]],
    count: int,
    batch_pixels: int,
    advance: Callable[[int], object] = lambda pictures: None,
) -> Scores:
    """The mean over each picture's views of the softmax of their logits: [N, K], rows sum to 1.

    The softmax is taken view by view, before the mean, as the authors' release does for ten crops. (Adding up logits
    instead lets one confident view outvote the others.) Views of equal size share batches, whosever they are; this
    changes the results by rounding at most.

    Args:
        logits: the network.
        views: the views of one picture after the other, [H, W, 3] of any sizes.
        count: N, how many pictures there are.
        batch_pixels: a batch has at most so many pixels, but at least one view.
        advance: called after each batch with the number of pictures that it completed.
    """
    scores: Scores | None = None
    for owners, weights, batch, completed in _batches(views, batch_pixels):
        found = softmax(logits(batch)) * weights[:, None]
        if scores is None:
            scores = np.zeros((count, found.shape[1]), np.float32)
        np.add.at(scores, owners, found)  # a picture may own several views of a batch
        advance(completed)
    return np.zeros((0, 0), np.float32) if scores is None else scores


def view_area(convention: InputConvention) -> int:
    """Pixels of a network's own view; of one that takes any size, of the usual."""
    return _area(convention.size) if convention.size else STANDARD_VIEW


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Over the classes, in float64. [B, K] -> [B, K]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
    return probabilities


Batch = tuple[NDArray[np.int64], NDArray[np.float64], Picture, int]


def _batches(views: Iterable[Sequence[Picture]], batch_pixels: int) -> Iterator[Batch]:
    """Owners [B], weights [B], views [B, H, W, 3], and how many pictures have now been seen whole."""
    waiting: dict[Size, list[tuple[int, float, Picture]]] = {}
    unseen: dict[int, int] = {}

    def release(size: Size) -> Batch:
        group = waiting.pop(size)
        for owner, _, _ in group:
            unseen[owner] -= 1
        completed = [owner for owner in {owner for owner, _, _ in group} if not unseen[owner]]
        for owner in completed:
            del unseen[owner]
        owners, weights, pictures = zip(*group, strict=True)
        return np.array(owners, np.int64), np.array(weights), np.stack(pictures), len(completed)

    for owner, own in enumerate(views):
        unseen[owner] = len(own)
        for view in own:
            size = (view.shape[0], view.shape[1])
            waiting.setdefault(size, []).append((owner, 1 / len(own), view))
            if (len(waiting[size]) + 1) * _area(size) > batch_pixels:
                yield release(size)
        while sum(len(group) * _area(size) for size, group in waiting.items()) > _WAITING * batch_pixels:
            yield release(max(waiting, key=lambda size: len(waiting[size]) * _area(size)))
    for size in list(waiting):
        yield release(size)


def _area(size: Size) -> int:
    return size[0] * size[1]
