"""Losses that both stages use."""

from __future__ import annotations

from torch import Tensor


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """Fast R-CNN's equation 3, element by element: quadratic below ``beta``, then linear; L1 where beta is 0."""
    size = difference.abs()
    if beta == 0:
        return size
    return (size - 0.5 * beta).where(size >= beta, 0.5 * size**2 / beta)
