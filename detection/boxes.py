"""Arithmetic of boxes: tensors in, tensors out.

A box is (x1, y1, x2, y2) in pixels, half-open, so its width is x2 - x1. Leading dimensions are free; where two
sets meet they broadcast as said.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)
"""A regression may enlarge a box 62.5 times at most, so that ``exp`` never overflows."""

RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
ROI_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Inverse standard deviations by which Fast R-CNN scales its regression targets."""

Weights = tuple[float, float, float, float]


def area(boxes: Tensor) -> Tensor:
    """[..., 4] -> [...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Common area of all pairs. [..., N, 4], [..., M, 4] -> [..., N, M]."""
    ax1, ay1, ax2, ay2 = a.unsqueeze(-2).unbind(-1)
    bx1, by1, bx2, by2 = b.unsqueeze(-3).unbind(-1)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    return width * height


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of all pairs; 0 where both boxes are empty. [..., N, 4], [..., M, 4] -> [..., N, M]."""
    common = intersection(a, b)
    union = area(a).unsqueeze(-1) + area(b).unsqueeze(-2) - common
    return common / union.clamp(min=1e-9)


def coverage(a: Tensor, b: Tensor) -> Tensor:
    """The share of each box of ``a`` that a box of ``b`` covers. [..., N, 4], [..., M, 4] -> [..., N, M]."""
    return intersection(a, b) / area(a).unsqueeze(-1).clamp(min=1e-9)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes cut to their images. [B, ..., 4] with (height, width) [B, 2] -> [B, ..., 4]."""
    limits = sizes.to(boxes.dtype).flip(-1).repeat(1, 2)
    limits = limits.reshape(limits.shape[0], *[1] * (boxes.dim() - 2), 4)
    return torch.minimum(boxes.clamp(min=0), limits)


def encode(boxes: Tensor, references: Tensor, weights: Weights) -> Tensor:
    """Regression targets (tx, ty, tw, th) of R-CNN that turn ``references`` into ``boxes``. [..., 4] -> [..., 4].

    Empty boxes, which pad a batch, give finite numbers without meaning.
    """
    box_size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3)
    size = (references[..., 2:] - references[..., :2]).clamp(min=1e-3)
    shift = (boxes[..., :2] + boxes[..., 2:] - references[..., :2] - references[..., 2:]) * 0.5 / size
    return torch.cat((shift, (box_size / size).log()), -1) * boxes.new_tensor(weights)


def decode(deltas: Tensor, references: Tensor, weights: Weights) -> Tensor:
    """The boxes that regression deltas make of ``references``; the inverse of ``encode``. [..., 4] -> [..., 4]."""
    deltas = deltas / deltas.new_tensor(weights)
    size = references[..., 2:] - references[..., :2]
    center = references[..., :2] + 0.5 * size + deltas[..., :2] * size
    half = 0.5 * size * deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp()
    return torch.cat((center - half, center + half), -1)
