"""The two irregular operations of a detector, and which form of them to use.

Everything else in the detector is ordinary batched tensor code. Results are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from detection.nms import nms_by_fixed_point, nms_by_kernel
from detection.roi_align import roi_align_by_grid, roi_align_by_sum


@dataclass(frozen=True)
class Operators:
    """A choice of forms.

    Attributes:
        nms: (boxes [G, N, 4], valid [G, N], threshold, labels) -> (keep [G, N], exact [G]).
        roi_align: (features, strides, boxes, levels, settings) -> [B * R, C, size, size].
        trims: shapes may depend on values, so what pads every image of a batch is cut off before work is done on it.
    """

    nms: Callable[..., tuple[Tensor, Tensor]]
    roi_align: Callable[..., Tensor]
    trims: bool = False


EAGER = Operators(nms_by_kernel, roi_align_by_sum, trims=True)
"""Fastest in eager PyTorch."""

ROUNDS = 16
"""Of suppression within a block, where the number must be fixed; clustered boxes need two to six."""

COMPILED = Operators(partial(nms_by_fixed_point, iterations=ROUNDS), roi_align_by_sum)
"""No data-dependent shape or control flow, with gradients: what ``torch.compile`` turns into one graph."""


def portable(iterations: int = ROUNDS) -> Operators:
    """For exported graphs: only operations that every engine has; suppression runs ``iterations`` rounds."""
    return Operators(partial(nms_by_fixed_point, iterations=iterations), roi_align_by_grid)
