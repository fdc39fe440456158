"""Global context (appendix B): the vector of the whole image beside each region's. Trained along with the detector."""

from __future__ import annotations

import torch
from torch import Tensor


def with_whole_image(boxes: Tensor, sizes: Tensor) -> Tensor:
    """The regions, and the whole image as the last. [B, R, 4], (height, width) [B, 2] -> [B, R + 1, 4]."""
    height, width = sizes.to(boxes.dtype).unbind(1)
    zero = torch.zeros_like(height)
    return torch.cat((boxes, torch.stack((zero, zero, width, height), 1)[:, None]), 1)


def beside_each(vectors: Tensor) -> Tensor:
    """The last vector of each image concatenated to all others. [B, R + 1, V] -> [B, R, 2 V]."""
    regions, whole = vectors[:, :-1], vectors[:, -1:]
    return torch.cat((regions, whole.expand_as(regions)), 2)
