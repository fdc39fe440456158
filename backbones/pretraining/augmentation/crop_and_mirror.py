"""The CIFAR augmentation of section 4.2, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

PADDING = 4


def crop_and_mirror(images: Tensor, draws: Tensor, mirrored: bool = True) -> Tensor:
    """Pad by 4 pixels of zero, crop at random, mirror half of the images: one gather, fixed shapes.

    The images are normalized already, so the border is the mean (section 4.2 pads after subtracting it).

    Args:
        images: [B, C, H, W].
        draws: [B, 3] in [0, 1): row, column and mirroring of each image.
        mirrored: whether images may be mirrored at all.

    Returns:
        [B, C, H, W].
    """
    batch, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    offsets = (draws[:, :2] * (2 * PADDING + 1)).long()
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    if mirrored:
        columns = torch.where(draws[:, 2:] < 0.5, columns.flip(1), columns)
    columns = offsets[:, 1:] + columns
    which = torch.arange(batch, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
