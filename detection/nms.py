"""Non-maximum suppression of many groups of boxes at once.

A group is the boxes of one image (or of one image and level), sorted by falling score. A box is kept if no kept
box before it overlaps it by more than the threshold. The same rule in two forms: torchvision's kernel, and plain
tensor operations without data-dependent shapes, which compile and export.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms

from detection.boxes import area

BLOCK = 256
"""Boxes that are settled among themselves at once. Each block's rounds then look at block times block overlaps, few
enough for a processor's cache, and memory grows with the block times the group."""


def nms_by_kernel(
    boxes: Tensor, valid: Tensor, threshold: float, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """torchvision's kernel, group by group. Arguments and results as for ``nms_by_fixed_point``."""
    keep = torch.zeros_like(valid)
    for group in range(boxes.shape[0]):
        candidates = valid[group].nonzero()[:, 0]
        own = boxes[group, candidates]
        own = own.float() if labels is None else apart(own, labels[group, candidates])
        falling = torch.arange(len(own), 0, -1, device=own.device, dtype=own.dtype)
        kept = torchvision_nms(own, falling, threshold)
        keep[group, candidates[kept]] = True
    return keep, valid.new_ones(boxes.shape[0])


def nms_by_fixed_point(
    boxes: Tensor, valid: Tensor, threshold: float, labels: Tensor | None = None, iterations: int | None = None
) -> tuple[Tensor, Tensor]:
    """Suppression as the fixed point of "kept = overlapped by no kept box before".

    Block by block: those that earlier blocks leave are all kept at first, and each round settles at least one more link
    of every chain of overlaps within the block, so the result is exact once it stops changing. Blocks of random or
    clustered boxes need two to six rounds; a chain of n boxes, each overlapping the next, needs about n.

    Of an overlap that equals the threshold rounding decides, as between torchvision's own kernels (its CPU one compares
    a quotient in single precision with a threshold in double).

    Args:
        boxes: [G, N, 4], each group sorted by falling score.
        valid: [G, N] bool; the others neither stay nor suppress.
        threshold: IoU above which the later box goes; at least 0.
        labels: [G, N], below 2 ** 24; where given, only boxes of one label suppress each other.
        iterations: rounds of each block. None goes on until nothing changes; a number fixes the length (for export and
            compilation).

    Returns:
        keep [G, N] bool, and [G] bool: whether the fixed point was reached, which makes ``keep`` exact.
    """
    if not boxes.shape[1]:
        return valid, valid.new_ones(boxes.shape[0])
    boxes = boxes.float()
    alive = valid.to(boxes.dtype)[:, None]  # rows of ones and zeros, so that each round is one product
    exact = valid.new_ones(boxes.shape[0])
    planes = _planes(boxes, labels)
    kept_blocks = []
    for start in range(0, boxes.shape[1], BLOCK):
        block = min(BLOCK, boxes.shape[1] - start)
        overlaps = _overlaps(planes[:, :, start : start + block], planes[:, :, start:], threshold)
        order = torch.arange(block, device=boxes.device)
        own = _negative(overlaps[:, :, :block] & (order[:, None] < order))
        kept, settled = _settle(alive[:, :, :block], own, iterations)
        kept_blocks.append(kept)
        exact = exact & settled
        if start + block < boxes.shape[1]:
            alive = torch.relu(alive[:, :, block:] + kept @ _negative(overlaps[:, :, block:]))
    return torch.cat(kept_blocks, 2)[:, 0] > 0.5, exact


def _planes(boxes: Tensor, labels: Tensor | None) -> Tensor:
    """What a pair's overlap is made of, cut once for a block. [G, N, 4] -> [G, 5 or 6, N].

    The upper left corner with its sign turned, so that the sides of the common rectangle are sums of minima; the lower
    right one; the area; perhaps the label.
    """
    parts = [-boxes[..., :2], boxes[..., 2:], area(boxes)[..., None]]
    if labels is not None:
        parts.append(labels[..., None].to(boxes.dtype))
    return torch.cat(parts, 2).transpose(1, 2)


def _overlaps(rows: Tensor, columns: Tensor, threshold: float) -> Tensor:
    """Whether pairs overlap by more than the threshold, as by ``iou``. [G, P, n], [G, P, m] -> [G, n, m] bool.

    In few passes over the pairs, which are what suppression costs: common / (a + b - common) > t without the
    difference and the quotient; and a negative height makes the common area negative, which exceeds no threshold.
    """
    left, top, right, bottom, a_area, *a_label = rows[..., None].split(1, 1)  # [G, 1, n, 1]: split exports as one node
    left_, top_, right_, bottom_, b_area, *b_label = columns[:, :, None].split(1, 1)  # [G, 1, 1, m]
    width = torch.relu(torch.minimum(right, right_) + torch.minimum(left, left_))
    common = width * (torch.minimum(bottom, bottom_) + torch.minimum(top, top_))
    overlaps = common * ((1 + threshold) / threshold) > a_area + b_area if threshold > 0 else common > 0
    if a_label:
        overlaps = overlaps & (a_label[0] == b_label[0])
    return overlaps.squeeze(1)


def _negative(overlaps: Tensor) -> Tensor:
    """Minus one for each overlap, so that a sum over kept boxes and what is alive leaves nothing above zero."""
    return torch.where(overlaps, -1.0, 0.0)


def _settle(alive: Tensor, overlaps: Tensor, iterations: int | None) -> tuple[Tensor, Tensor]:
    """Iterate within one block. [G, 1, n], [G, n, n] (earlier, later) -> kept [G, 1, n], settled [G]."""
    kept = previous = alive
    for _ in range(alive.shape[2] + 1 if iterations is None else iterations):
        previous, kept = kept, torch.relu(alive + kept @ overlaps)
        if iterations is None and torch.equal(kept, previous):
            break
    return kept, (kept == previous).all(2).all(1)


def apart(boxes: Tensor, labels: Tensor) -> Tensor:
    """Boxes moved so far apart by label that those of different labels never meet; in double, so nothing rounds.

    Coordinates that are no numbers stay so, and move nothing.
    """
    if not boxes.numel():
        return boxes.double()
    numbers = torch.nan_to_num(boxes.double(), 0.0, 0.0, 0.0)
    return boxes.double() + (labels * (numbers.max() - numbers.min() + 1))[..., None]
