"""Soft suppression (Bodla et al. 2017): overlapped boxes lose score instead of going."""

from __future__ import annotations

import torch
from torch import Tensor

from detection.boxes import iou


def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, sigma: float, rounds: int) -> Tensor:
    """The scores that are left, by the Gaussian rule (equation 2): score * exp(-IoU**2 / sigma), within each class.

    In each round the best box that has not been taken yet is taken, and those it overlaps decay.

    Args:
        boxes: [B, N, 4].
        scores: [B, N].
        labels: [B, N].
        sigma: width of the Gaussian; 0.5 in the paper of soft suppression.
        rounds: how many boxes of each image are taken; the others get 0.

    Returns:
        [B, N].
    """
    overlaps = torch.where(labels[..., None] == labels[:, None], iou(boxes, boxes), 0.0)
    decay = torch.exp(-(overlaps**2) / sigma)
    left, taken = scores, torch.zeros_like(scores)
    place = torch.arange(scores.shape[1], device=scores.device)
    for _ in range(min(rounds, scores.shape[1])):
        best, index = left.max(1, keepdim=True)
        chosen = place == index
        taken = torch.where(chosen, best, taken)
        row = decay.gather(1, index[..., None].expand(-1, -1, decay.shape[2]))[:, 0]
        left = torch.where(chosen, 0.0, left * row)
    return taken
