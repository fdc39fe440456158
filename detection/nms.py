"""Non-maximum suppression of many groups of boxes at once.

A group is the boxes of one image (or of one image and level), sorted by falling score. A box is kept if no kept
box before it overlaps it by more than the threshold. The same rule in two forms: torchvision's kernel, and plain
tensor operations without data-dependent shapes, which compile and export.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms

from detection.boxes import iou

BLOCK = 1024
"""Boxes whose overlaps are held at once: memory grows with the block times the group, not with its square."""


def nms_by_kernel(
    boxes: Tensor, valid: Tensor, threshold: float, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """torchvision's kernel, group by group. Arguments and results as for ``nms_by_fixed_point``."""
    if labels is not None:
        boxes = apart(boxes, labels)
    keep = torch.zeros_like(valid)
    falling = torch.arange(boxes.shape[1], 0, -1, device=boxes.device, dtype=boxes.dtype)
    for group in range(boxes.shape[0]):
        candidates = valid[group].nonzero()[:, 0]
        kept = torchvision_nms(boxes[group, candidates], falling[candidates], threshold)
        keep[group, candidates[kept]] = True
    return keep, valid.new_ones(boxes.shape[0])


def nms_by_fixed_point(
    boxes: Tensor, valid: Tensor, threshold: float, labels: Tensor | None = None, iterations: int | None = None
) -> tuple[Tensor, Tensor]:
    """Suppression as the fixed point of "kept = overlapped by no kept box before".

    Starting from all boxes, each iteration settles at least one more link of every chain of overlaps, so the
    result is exact once it stops changing. Random boxes need two to nine iterations; a chain of n boxes, each
    overlapping the next, needs about n.

    Args:
        boxes: [G, N, 4], each group sorted by falling score.
        valid: [G, N] bool; the others neither stay nor suppress.
        threshold: IoU above which the later box goes.
        labels: [G, N]; where given, only boxes of one label suppress each other.
        iterations: None goes on until nothing changes; a number fixes the length (for export and compilation).

    Returns:
        keep [G, N] bool, and [G] bool: whether the fixed point was reached, which makes ``keep`` exact.
    """
    count = boxes.shape[1]
    alive = valid.to(boxes.dtype)[:, None]  # a row of ones and zeros, so that each round is one product
    exact = valid.new_ones(boxes.shape[0])
    kept_blocks = []
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        overlaps = iou(boxes[:, start:stop], boxes[:, start:]) > threshold
        if labels is not None:
            overlaps = overlaps & (labels[:, start:stop, None] == labels[:, None, start:])
        order = torch.arange(start, count, device=boxes.device)
        blocks = (overlaps & (order[: stop - start, None] < order)).to(boxes.dtype)
        kept, settled = _settle(alive[:, :, start:stop], blocks[:, :, : stop - start], iterations)
        kept_blocks.append(kept)
        exact = exact & settled
        if stop < count:
            later = kept @ blocks[:, :, stop - start :]
            alive = torch.cat((alive[:, :, :stop], alive[:, :, stop:] * (later < 0.5)), 2)
    return torch.cat(kept_blocks, 2)[:, 0] > 0.5, exact


def _settle(alive: Tensor, overlaps: Tensor, iterations: int | None) -> tuple[Tensor, Tensor]:
    """Iterate within one block. [G, 1, n], [G, n, n] (earlier, later) -> kept [G, 1, n], settled [G]."""
    kept = previous = alive
    for _ in range(alive.shape[2] + 1 if iterations is None else iterations):
        previous, kept = kept, alive * (kept @ overlaps < 0.5)
        if iterations is None and torch.equal(kept, previous):
            break
    return kept, (kept == previous).all(2).all(1)


def apart(boxes: Tensor, labels: Tensor) -> Tensor:
    """Boxes moved so far apart by label that those of different labels never meet; in double, so nothing rounds."""
    return boxes.double() + (labels * (boxes.max().double() + 1))[..., None]
