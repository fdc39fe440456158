"""Mirror images and other sizes of one picture, whose detections are pooled before suppression.

Today's alternative to the paper's maxout over scales: every view is detected on its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detection.boxes import clip
from detection.scoring import Pairs


def mirrored(images: Tensor, sizes: Tensor) -> Tensor:
    """Each image turned left to right within its valid width; padding stays where it is. [B, 3, H, W].

    Args:
        images: [B, 3, H, W].
        sizes: (height, width) of the valid area [B, 2].
    """
    column = torch.arange(images.shape[3], device=images.device)
    width = sizes[:, 1:]
    source = torch.where(column < width, width - 1 - column, column)  # [B, W]
    return images.gather(3, source[:, None, None].expand_as(images))


def mirrored_back(pairs: Pairs, sizes: Tensor) -> Pairs:
    """Pairs found in mirrored images, in pixels of the images as they were."""
    x1, y1, x2, y2 = pairs.boxes.unbind(2)
    width = sizes[:, 1:].to(x1.dtype)
    return Pairs(torch.stack((width - x2, y1, width - x1, y2), 2), pairs.scores, pairs.labels)


def rescaled(pairs: Pairs, sizes: Tensor, wanted: Tensor) -> Pairs:
    """Pairs of one scale in pixels of another.

    Args:
        pairs: found at ``sizes``.
        sizes, wanted: (height, width) of each image [B, 2].
    """
    ratio = (wanted.to(pairs.boxes.dtype) / sizes.to(pairs.boxes.dtype)).flip(1).repeat(1, 2)[:, None]
    return Pairs(clip(pairs.boxes * ratio, wanted), pairs.scores, pairs.labels)


def together(views: Sequence[Pairs], most: int) -> Pairs:
    """The best ``most`` pairs of each image from all views, best first, as suppression wants them."""
    boxes, scores, labels = (
        torch.cat([getattr(view, name) for view in views], 1) for name in ("boxes", "scores", "labels")
    )
    return Pairs(boxes, scores, labels).taken(scores.topk(min(most, scores.shape[1]), 1).indices)
