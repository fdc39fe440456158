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
    for group in range(len(boxes)):
        candidates = valid[group].nonzero()[:, 0]
        kept = torchvision_nms(boxes[group, candidates], falling[candidates], threshold)
        keep[group, candidates[kept]] = True
    return keep, valid.new_ones(len(boxes))


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
    alive, converged = valid, valid.new_ones(len(boxes))
    kept_blocks = []
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        block = boxes[:, start:stop]
        overlaps = iou(block, boxes[:, start:]) > threshold
        if labels is not None:
            overlaps = overlaps & (labels[:, start:stop, None] == labels[:, None, start:])
        within = overlaps[:, :, : stop - start].triu(1).to(boxes.dtype)
        kept, settled = _settle(alive[:, start:stop], within, iterations)
        kept_blocks.append(kept)
        converged = converged & settled
        if stop < count:
            later = _overlapped(kept, overlaps[:, :, stop - start :].to(boxes.dtype))
            alive = torch.cat((alive[:, :stop], alive[:, stop:] & ~later), 1)
    return torch.cat(kept_blocks, 1), converged


def _settle(alive: Tensor, overlaps: Tensor, iterations: int | None) -> tuple[Tensor, Tensor]:
    """Iterate on one block. [G, n], [G, n, n] -> kept [G, n], settled [G]."""
    kept = alive
    for _ in range(alive.shape[1] + 1 if iterations is None else iterations):
        previous, kept = kept, alive & ~_overlapped(kept, overlaps)
        if iterations is None and torch.equal(kept, previous):
            break
    return kept, (kept == previous).all(1)


def _overlapped(kept: Tensor, overlaps: Tensor) -> Tensor:
    """Which boxes some kept box overlaps. [G, n], [G, n, m] -> [G, m] bool."""
    return (kept.to(overlaps.dtype)[:, None] @ overlaps)[:, 0] > 0.5


def apart(boxes: Tensor, labels: Tensor) -> Tensor:
    """Boxes moved so far apart by label that those of different labels never meet; in double, so nothing rounds."""
    return boxes.double() + (labels * (boxes.max().double() + 1))[..., None]
