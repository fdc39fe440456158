"""RoIAlign (He et al. 2017, section 3) of all levels of a pyramid in one operation, in two forms.

Each bin of a region is the mean of bilinear samples, hence a weighted sum of feature vectors. ``roi_align_by_sum``
computes just that, as one weighted lookup over the rows of all levels, many times faster on a CPU than a kernel
that walks channel by channel. ``roi_align_by_grid`` stacks the levels into one picture and samples it, in
operations that every inference engine has. Both agree with torchvision's kernel to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from detection.settings import PoolSettings


def roi_align_by_sum(
    features: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, levels: Tensor, settings: PoolSettings
) -> Tensor:
    """Pool each region from its level.

    Args:
        features: for each level [B, C, h, w].
        strides: pixels per feature-map pixel, one for each level.
        boxes: [B, R, 4] in pixels.
        levels: [B, R] int64, indices into ``features``.
        settings: bins and samples.

    Returns:
        [B * R, C, size, size] float32, in channels-last memory.
    """
    batch, channels = features[0].shape[:2]
    rows = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, channels) for level in features]).float()
    index, weight = _lookup(features, strides, boxes.detach().float(), levels, settings)
    pooled: Tensor = _WeightedSum.apply(rows, index, weight)
    return pooled.reshape(batch * boxes.shape[1], settings.size, settings.size, channels).permute(0, 3, 1, 2)


def _lookup(
    features: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, levels: Tensor, settings: PoolSettings
) -> tuple[Tensor, Tensor]:
    """Rows and weights of every bin: [B * R * size * size, (2 * ratio) ** 2] each."""
    batch, regions = levels.shape
    device = boxes.device
    shapes = torch.tensor([level.shape[-2:] for level in features], device=device)
    ends = (batch * shapes.prod(1)).cumsum(0)
    starts = torch.cat((ends.new_zeros(1), ends[:-1]))
    level = levels.reshape(-1)
    height, width = shapes[level].unbind(1)
    image = torch.arange(batch, device=device).repeat_interleave(regions)
    origin = starts[level] + image * height * width
    y, y_weight = _samples(boxes, 1, height, strides, level, settings)
    x, x_weight = _samples(boxes, 0, width, strides, level, settings)
    row = origin[:, None] + y * width[:, None]
    shape = (-1, settings.size, 1, 2 * settings.sampling_ratio, 1)
    turned = (-1, 1, settings.size, 1, 2 * settings.sampling_ratio)
    samples = (2 * settings.sampling_ratio) ** 2
    index = row.reshape(shape) + x.reshape(turned)
    weight = y_weight.reshape(shape) * x_weight.reshape(turned)
    return index.reshape(-1, samples), weight.reshape(-1, samples)


def _samples(
    boxes: Tensor, axis: int, extent: Tensor, strides: Sequence[int], level: Tensor, settings: PoolSettings
) -> tuple[Tensor, Tensor]:
    """Along one axis, the two neighbours of each sample and their shares. Both [R, size * ratio * 2]."""
    scale = 1 / torch.tensor(strides, device=boxes.device, dtype=boxes.dtype)[level]
    position = sample_positions(boxes.reshape(-1, 4), axis, scale, settings)
    last = (extent - 1)[:, None]
    reachable = (position >= -1) & (position <= extent[:, None])
    position = torch.minimum(position.clamp(min=0), last.to(position.dtype))
    lower = position.long()
    upper = torch.minimum(lower + 1, last)
    share = position - lower
    weights = torch.stack((1 - share, share), -1) * (reachable[..., None] / settings.sampling_ratio)
    return torch.stack((lower, upper), -1).flatten(1), weights.flatten(1)


def sample_positions(boxes: Tensor, axis: int, scale: Tensor, settings: PoolSettings) -> Tensor:
    """Where the samples of each region lie along one axis, in feature-map pixels. [R, 4], [R] -> [R, size * ratio]."""
    offset = 0.5 if settings.aligned else 0.0
    start = boxes[:, axis] * scale - offset
    length = boxes[:, axis + 2] * scale - offset - start
    if not settings.aligned:
        length = length.clamp(min=1)
    count = settings.size * settings.sampling_ratio
    steps = (torch.arange(count, device=boxes.device, dtype=boxes.dtype) + 0.5) / count
    return start[:, None] + length[:, None] * steps


class _WeightedSum(torch.autograd.Function):
    """``out[i] = sum_k weight[i, k] * rows[index[i, k]]``; its gradient is the transposed sum, by sorted rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.row_count = len(rows)
        return functional.embedding_bag(index, rows, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        index, weight = ctx.saved_tensors
        target, order = torch.sort(index.reshape(-1).int(), stable=True)
        first = torch.searchsorted(target, torch.arange(ctx.row_count, device=target.device, dtype=target.dtype))
        source = torch.div(order, index.shape[1], rounding_mode="floor")
        return (
            functional.embedding_bag(
                source, gradient.contiguous(), first, per_sample_weights=weight.reshape(-1)[order], mode="sum"
            ),
            None,
            None,
        )


def roi_align_by_grid(
    features: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, levels: Tensor, settings: PoolSettings
) -> Tensor:
    """The same result from grid sampling. Arguments and result as for ``roi_align_by_sum``.

    The levels are stacked below each other in one picture as wide as the first, the widest; samples are held inside
    their own level by clamping, which is what RoIAlign does at the border of a map. Boxes must lie inside the image.
    """
    batch, channels, _, width = features[0].shape
    regions, ratio = boxes.shape[1], settings.sampling_ratio
    stacked = torch.cat([functional.pad(level, (0, width - level.shape[3])) for level in features], 2)
    top, height, columns, scale = _per_region(features, strides, levels, boxes.dtype)
    flat = boxes.float().reshape(-1, 4)
    y = _grid_positions(sample_positions(flat, 1, scale, settings), height, top, stacked.shape[2], settings)
    x = _grid_positions(sample_positions(flat, 0, scale, settings), columns, 0 * top, width, settings)
    y = y.reshape(batch, regions, settings.size, 1, ratio, 1)
    x = x.reshape(batch, regions, 1, settings.size, 1, ratio)
    total: Tensor | None = None
    for i in range(ratio):
        for j in range(ratio):
            points = torch.stack(torch.broadcast_tensors(x[..., 0, j], y[..., i, 0]), -1)
            points = points.reshape(batch, regions * settings.size, settings.size, 2)
            sampled = functional.grid_sample(stacked, points.to(stacked.dtype), align_corners=False)
            total = sampled if total is None else total + sampled
    assert total is not None
    pooled = (total / ratio**2).reshape(batch, channels, -1).transpose(1, 2)  # channels last, as by the sum
    return pooled.reshape(batch * regions, settings.size, settings.size, channels).permute(0, 3, 1, 2)


def _grid_positions(position: Tensor, extent: Tensor, start: Tensor, whole: int, settings: PoolSettings) -> Tensor:
    """Samples along one axis, held inside their level, in ``grid_sample``'s coordinates. [R, S], [R], [R] -> [R, S]."""
    inside = torch.minimum(position.clamp(min=0), extent[:, None] - 1) + start[:, None]
    scaled = (2 * inside + 1) / whole - 1
    if settings.aligned:
        return scaled  # a region inside the image has no sample beyond its border
    # The unaligned form stretches small regions, past the border too, where samples count as zero.
    return torch.where(position <= extent[:, None], scaled, -3.0)


def _per_region(
    features: Sequence[Tensor], strides: Sequence[int], levels: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each region its level's first row in the stack, height, width, and scale; [B * R] each.

    Sums over levels instead of lookups, since shapes may be symbols while a graph is exported.
    """
    flat = levels.reshape(-1)
    top = height = width = scale = torch.zeros_like(flat, dtype=dtype)
    first = 0
    for number, (level, stride) in enumerate(zip(features, strides, strict=True)):
        chosen = (flat == number).to(dtype)
        top = top + chosen * first
        height = height + chosen * level.shape[2]
        width = width + chosen * level.shape[3]
        scale = scale + chosen / stride
        first = first + level.shape[2]
    return top, height, width, scale
