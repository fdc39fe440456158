"""Half precision, written into the graph: what learns becomes fp16 or bf16, what computes boxes stays fp32.

TensorRT 11 has no precision flags, so the types in the file decide. Convolutions and linear layers are cast;
normalization, anchors, box decoding, softmax, RoIAlign and suppression are not, since a coordinate of 1,000 pixels has
a resolution of half a pixel in fp16 and of four in bf16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from detection.operators import Operators
from detection.settings import PoolSettings

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def cast_layers(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast every layer with weights, in place, and what the network is given.

    Args:
        model: a classifier, detector or segmenter whose normalization is folded; it calls ``normalize`` on pixels.
        dtype: fp16 or bf16.
    """
    for layer in model.modules():
        if isinstance(layer, _LAYERS):
            layer.to(dtype)
    model.normalize = CastOutput(model.normalize, dtype)  # type: ignore[arg-type]
    operators = getattr(model, "operators", None)
    if isinstance(operators, Operators):
        model.operators = replace(operators, roi_align=_SinglePrecisionPooling(operators.roi_align, dtype))  # type: ignore[assignment]


class CastOutput(nn.Module):
    """A module whose result is cast."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.module(*inputs)
        return result.to(self.dtype)


class _SinglePrecisionPooling:
    """RoIAlign in fp32 on features in half precision."""

    def __init__(self, roi_align: object, dtype: torch.dtype) -> None:
        self.roi_align = roi_align
        self.dtype = dtype

    def __call__(
        self,
        features: Sequence[Tensor],
        strides: Sequence[int],
        boxes: Tensor,
        levels: Tensor,
        settings: PoolSettings,
    ) -> Tensor:
        pooled: Tensor = self.roi_align([level.float() for level in features], strides, boxes, levels, settings)  # type: ignore[operator]
        return pooled.to(self.dtype)
