"""Box voting (Gidaris and Komodakis 2015, section 5; appendix B of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

from detection.boxes import iou


def vote(kept: Tensor, kept_labels: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Each kept box becomes the mean of the boxes of its class that overlap it, weighted by their scores.

    Args:
        kept: [B, D, 4], what suppression kept.
        kept_labels: [B, D].
        boxes: [B, N, 4], what entered suppression.
        scores: [B, N]; those of 0 have no vote.
        labels: [B, N].
        threshold: least IoU of a voter.

    Returns:
        [B, D, 4]. Scores stay as they are.
    """
    voters = (iou(kept, boxes) >= threshold) & (kept_labels[..., None] == labels[:, None])
    weights = voters * scores[:, None]
    total = weights.sum(2, keepdim=True)
    return torch.where(total > 0, (weights @ boxes) / total.clamp(min=1e-9), kept)
