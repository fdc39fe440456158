"""The standard colour augmentation of section 3.4: AlexNet's shift along the principal components of colour."""

from __future__ import annotations

import torch
from torch import Tensor

DEVIATION = 0.1
EIGENVALUES = (0.2175, 0.0188, 0.0045)
"""Of the covariance of ImageNet's RGB values in [0, 1]."""
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
"""One a column; rows are red, green and blue."""


def lighting_shift(draws: Tensor) -> Tensor:
    """What to add to every pixel of each image.

    Args:
        draws: [B, 3] standard normal.

    Returns:
        [B, 3, 1, 1] on the 0..255 scale: components times eigenvalue times N(0, 0.1).
    """
    values = torch.tensor(EIGENVALUES, device=draws.device)
    vectors = torch.tensor(EIGENVECTORS, device=draws.device)
    return (255 * DEVIATION * (draws * values) @ vectors.T)[:, :, None, None]


def standard_normal(draws: Tensor) -> Tensor:
    """Uniform draws [B, 6] in [0, 1) -> [B, 3] standard normal (Box and Muller)."""
    below_one = draws[:, :3].clamp(max=1 - 2.0**-24)  # a double just below 1 is 1 in float32, and its radius infinite
    radius = (-2 * torch.log1p(-below_one)).sqrt()
    return radius * torch.cos(2 * torch.pi * draws[:, 3:])
