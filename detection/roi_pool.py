"""From regions to grids of features, in whichever way the settings ask for.

RoI pooling (Girshick 2015, section 2.1) is the paper's: corners are rounded to whole feature-map pixels, and each
bin gives its maximum. RoIAlign replaced it; the adaptive form, one sample for each pixel, is detectron2's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from detection.settings import PoolSettings

RoIAlign = Callable[..., Tensor]


def pool_regions(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    settings: PoolSettings,
    fixed_align: RoIAlign,
) -> Tensor:
    """Pool each region from its level.

    Args:
        features: for each level [B, C, h, w]; none wider than the first.
        strides: pixels per feature-map pixel, one for each level.
        boxes: [B, R, 4] in pixels.
        levels: [B, R] int64, indices into ``features``.
        settings: which form, bins and samples.
        fixed_align: RoIAlign with a fixed number of samples, in the form that suits the engine.

    Returns:
        [B * R, C, size, size].
    """
    if settings.kind == "align" and settings.sampling_ratio:
        return fixed_align(features, strides, boxes, levels, settings)
    regions = with_image_numbers(boxes)
    if len(features) == 1:
        return _by_kernel(features[0], regions, strides[0], settings).to(features[0].dtype)
    flat = levels.reshape(-1)
    pooled = features[0].new_zeros(len(regions), features[0].shape[1], settings.size, settings.size)
    for number, (level, stride) in enumerate(zip(features, strides, strict=True)):
        chosen = (flat == number).nonzero()[:, 0]
        pooled = pooled.index_copy(0, chosen, _by_kernel(level, regions[chosen], stride, settings).to(pooled.dtype))
    return pooled


def _by_kernel(level: Tensor, regions: Tensor, stride: int, settings: PoolSettings) -> Tensor:
    """torchvision's kernels for one level, in at least single precision. [R, 5] -> [R, C, size, size]."""
    if settings.kind == "pool":
        pooled: Tensor = roi_pool(level.float(), regions.float(), settings.size, 1 / stride)
        return pooled
    aligned: Tensor = roi_align(
        level.float(), regions.float(), settings.size, 1 / stride, settings.sampling_ratio, settings.aligned
    )
    return aligned


def with_image_numbers(boxes: Tensor) -> Tensor:
    """[B, R, 4] -> [B * R, 5], the image's place in front."""
    batch, regions = boxes.shape[:2]
    image = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)[:, None, None]
    return torch.cat((image.expand(-1, regions, 1), boxes), 2).reshape(-1, 5)
