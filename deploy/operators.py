"""The two irregular operations of a detector as ONNX's own operators: the flavour ``ops``.

NonMaxSuppression tells how many boxes stay only when it runs. Its answer is written into a mask of fixed shape at once,
so the batch stays dynamic and everything behind it keeps its static shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms
from torchvision.ops import roi_align as torchvision_roi_align

from detection.operators import Operators
from detection.roi_pool import with_image_numbers
from detection.settings import PoolSettings


def onnx_operators(classes: int) -> Operators:
    """For graphs of the flavour ``ops``.

    Args:
        classes: how many labels there are.
    """
    return Operators(partial(nms_by_operator, classes=classes), roi_align_by_operator)


def nms_by_operator(
    boxes: Tensor, valid: Tensor, threshold: float, labels: Tensor | None = None, *, classes: int = 1
) -> tuple[Tensor, Tensor]:
    """Suppression by NonMaxSuppression. Arguments and results as for ``detection.nms.nms_by_fixed_point``.

    Labels become the operator's own classes, [G, K, N] scores of which those of other labels are not valid.
    """
    falling = torch.arange(boxes.shape[1], 0, -1, device=boxes.device, dtype=boxes.dtype)
    scores = torch.where(valid, falling, -1.0)[:, None]
    if labels is not None:
        own = labels[:, None] == torch.arange(classes, device=boxes.device)[:, None]
        scores = torch.where(own, scores, -1.0)
    keep = _suppress(boxes, scores, threshold)
    return keep, valid.new_ones(1).expand(boxes.shape[0])


@torch.library.custom_op("shortcut::suppress", mutates_args=())
def _suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Boxes [G, N, 4] and scores [G, K, N], positive where valid -> [G, N] bool, whether any class keeps the box."""
    keep = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for group in range(boxes.shape[0]):
        for row in scores[group]:
            candidates = (row > 0).nonzero()[:, 0]
            kept = torchvision_nms(boxes[group, candidates], row[candidates], threshold)
            keep[group, candidates[kept]] = True
    return keep


@_suppress.register_fake
def _(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    return boxes.new_empty(boxes.shape[:2], dtype=torch.bool)


def translations() -> dict[Any, Callable[..., Any]]:
    """How the exporter writes our operators, for ``torch.onnx.export(custom_translation_table=...)``."""
    import onnx
    from onnxscript import opset20

    op: Any = opset20  # its types know no operator's output

    def suppress(boxes: Any, scores: Any, threshold: float) -> Any:
        count = op.Squeeze(op.Shape(boxes, start=1, end=2))
        limits = (op.Constant(value_float=threshold), op.Constant(value_float=0.0))
        selected = op.NonMaxSuppression(boxes, scores, count, *limits)  # [M, 3]: group, class, box
        places = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
        ones = op.Expand(op.Constant(value_float=1.0), op.Shape(selected, start=0, end=1))
        none = op.Mul(op.ReduceMax(scores, op.Constant(value_ints=[1]), keepdims=0), op.Constant(value_float=0.0))
        return op.Greater(op.ScatterND(none, places, ones), op.Constant(value_float=0.5))

    def roi_pool(features: Any, regions: Any, scale: float, height: int, width: int) -> Any:
        pooled = op.MaxRoiPool(features, regions, pooled_shape=[height, width], spatial_scale=scale)
        return pooled, op.Identity(regions)  # torchvision's second result is for gradients

    def roi_align(
        features: Any, regions: Any, scale: float, height: int, width: int, sampling_ratio: int, aligned: bool
    ) -> Any:
        image = op.Cast(op.Gather(regions, op.Constant(value_int=0), axis=1), to=onnx.TensorProto.INT64)
        corners = op.Gather(regions, op.Constant(value_ints=[1, 2, 3, 4]), axis=1)
        return op.RoiAlign(
            features, corners, image, output_height=height, output_width=width, sampling_ratio=sampling_ratio,
            spatial_scale=scale, coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        )  # fmt: skip

    return {
        torch.ops.shortcut.suppress.default: suppress,
        torch.ops.torchvision.roi_pool.default: roi_pool,
        torch.ops.torchvision.roi_align.default: roi_align,  # onnxscript 0.6 has it with other arguments
    }


def roi_align_by_operator(
    features: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, levels: Tensor, settings: PoolSettings
) -> Tensor:
    """RoIAlign of all levels by one operator. Arguments and result as for ``detection.roi_align.roi_align_by_sum``.

    The levels stand below each other in one picture as wide as the first, the widest, each framed by its own border
    once more, as RoIAlign extends it.
    Only where the unaligned form stretches a region of less than a pixel past the lower border does a sample there
    differ: it fades to zero over a pixel instead of at once.
    """
    width = features[0].shape[3]
    stacked = torch.cat([_framed(level, width) for level in features], 2)
    top = scale = torch.zeros_like(boxes[..., 0])
    first: Any = 0
    for number, (level, stride) in enumerate(zip(features, strides, strict=True)):
        chosen = (levels == number).to(boxes.dtype)
        top = top + chosen * (first + 1)
        scale = scale + chosen / stride
        first = first + level.shape[2] + 3
    x1, y1, x2, y2 = (boxes * scale[..., None]).unbind(-1)
    placed = torch.stack((x1, y1 + top, x2, y2 + top), -1)
    pooled: Tensor = torchvision_roi_align(
        stacked, with_image_numbers(placed), settings.size, 1.0, settings.sampling_ratio, settings.aligned
    )
    return pooled


def _framed(level: Tensor, width: Any) -> Tensor:
    """Its first and last row and its last column once more, then zeros: [B, C, h, w] -> [B, C, h + 3, width + 1]."""
    wide = torch.cat((level, level[..., -1:]), 3)
    tall = torch.cat((wide[:, :, :1], wide, wide[:, :, -1:]), 2)
    return torch.nn.functional.pad(tall, (0, width - level.shape[3], 0, 1))
