"""Regions with the marks that a detector's second stage gives them, and the choice of detections among them.

Everything that the appendix improves at test time happens between these two: a ``Scorer`` may pool from several
scales, average several detectors, or be asked twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from detection.boxes import ROI_WEIGHTS, clip, decode
from detection.improvements.soft_nms import soft_nms
from detection.improvements.voting import vote
from detection.operators import Operators
from detection.settings import OutputSettings

_SMALLEST = 1e-2


@dataclass(frozen=True)
class RegionScores:
    """R regions of each image, scored.

    Attributes:
        boxes: [B, R, 4] pixels of the batch.
        valid: [B, R] bool.
        probabilities: [B, R, K] without background.
        deltas: [B, R, K, 4], each class's regression of the box.
    """

    boxes: Tensor
    valid: Tensor
    probabilities: Tensor
    deltas: Tensor

    def joined(self, other: RegionScores) -> RegionScores:
        """The regions of both."""
        return RegionScores(*(torch.cat((getattr(self, f.name), getattr(other, f.name)), 1) for f in fields(self)))

    def best_boxes(self, sizes: Tensor) -> Tensor:
        """Each region regressed as its best class would have it, cut to the image. [B, R, 4]."""
        best = self.probabilities.argmax(2)[..., None, None].expand(-1, -1, 1, 4)
        return clip(decode(self.deltas.gather(2, best)[:, :, 0], self.boxes, ROI_WEIGHTS), sizes)


Scorer = Callable[[Tensor, Tensor], RegionScores]
"""(boxes [B, R, 4], valid [B, R]) -> their scores."""


@dataclass(frozen=True)
class Pairs:
    """N (region, class) pairs of each image: what suppression chooses from, best first.

    Attributes:
        boxes: [B, N, 4] pixels of the batch, inside the image.
        scores: [B, N]; 0 where there is no pair.
        labels: [B, N] int64.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def taken(self, index: Tensor) -> Pairs:
        """Those that [B, M] indices choose."""
        wide = index[..., None].expand(-1, -1, 4)
        return Pairs(self.boxes.gather(1, wide), self.scores.gather(1, index), self.labels.gather(1, index))


@dataclass(frozen=True)
class DetectionBatch:
    """D detections of each image, best first, padded with score 0.

    Attributes:
        boxes: [B, D, 4] pixels of the batch.
        scores: [B, D].
        labels: [B, D] int64.
        exact: [B] bool, whether every suppression reached its fixed point.
        masks: [B, D, m, m], the probability of each cell of a box, or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    exact: Tensor
    masks: Tensor | None = None

    def trimmed(self) -> DetectionBatch:
        """Without the columns, at the end, that no image uses; one stays."""
        used = max(1, int((self.scores > 0).sum(1).max()))
        masks = None if self.masks is None else self.masks[:, :used]
        return DetectionBatch(self.boxes[:, :used], self.scores[:, :used], self.labels[:, :used], self.exact, masks)


def best_pairs(regions: RegionScores, sizes: Tensor, settings: OutputSettings) -> Pairs:
    """The best (region, class) pairs, regressed; those below the threshold and empty boxes get score 0.

    Args:
        regions: R of each image.
        sizes: (height, width) of each image [B, 2].
        settings: ``candidates`` pairs are kept, with scores above ``score_threshold``.
    """
    batch, count, classes = regions.probabilities.shape
    scores = torch.where(regions.valid[..., None], regions.probabilities, 0.0).reshape(batch, -1)
    scores, index = scores.topk(min(settings.candidates, count * classes), 1)
    wide = index[..., None].expand(-1, -1, 4)
    region = torch.div(index, classes, rounding_mode="floor")[..., None].expand(-1, -1, 4)
    chosen = regions.deltas.reshape(batch, -1, 4).gather(1, wide)
    boxes = clip(decode(chosen, regions.boxes.gather(1, region), ROI_WEIGHTS), sizes)
    extent = boxes[..., 2:] - boxes[..., :2]
    real = (scores > settings.score_threshold) & (extent.amin(-1) >= _SMALLEST)
    return Pairs(boxes, torch.where(real, scores, 0.0), index % classes)


def suppress(pairs: Pairs, settings: OutputSettings, operators: Operators) -> DetectionBatch:
    """Suppress within each class, hard or soft, keep the best of all, and let the others vote on their boxes."""
    if settings.soft:
        scores = soft_nms(pairs.boxes, pairs.scores, pairs.labels, settings.soft, settings.max_detections)
        scores = torch.where(scores > settings.score_threshold, scores, 0.0)
        exact = scores.new_ones(len(scores), dtype=torch.bool)
    else:
        keep, exact = operators.nms(pairs.boxes, pairs.scores > 0, settings.nms_threshold, pairs.labels)
        scores = torch.where(keep, pairs.scores, 0.0)
    scores, order = scores.topk(min(settings.max_detections, scores.shape[1]), 1)
    kept = pairs.taken(order)
    boxes = (
        vote(kept.boxes, kept.labels, pairs.boxes, pairs.scores, pairs.labels, settings.vote)
        if settings.vote
        else kept.boxes
    )
    found = scores > 0
    return DetectionBatch(torch.where(found[..., None], boxes, 0.0), scores, torch.where(found, kept.labels, 0), exact)
