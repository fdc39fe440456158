"""Finer feature maps from the same weights: strides become dilation (Chen et al. 2017, section 3.1).

A convolution that no longer strides gives every position in place of every second one, and those behind it then read
every second value. So at the positions that the strided network has, the dilated one has the same features.
"""

from __future__ import annotations

from typing import Any

from backbones.blocks import BasicBlock, Bottleneck, PaddedShortcut, ProjectionShortcut
from backbones.contract import Backbone
from backbones.errors import InputError


def dilate(network: Backbone, output_stride: int) -> None:
    """Keep every map of a network at ``output_stride`` or finer, in place. Weights load as before.

    Args:
        network: from ``build_backbone``.
        output_stride: 16 or 8, as segmenters have it; a network that is finer already stays as it is.

    Raises:
        InputError: something other than a residual or plain block has a stride there (VGG's pooling), or no division
            by whole strides gives this one.
    """
    dilation = 1
    for name, stride in network.out_strides.items():
        if stride <= output_stride:
            continue
        for block in network.stage(name).children():
            if not isinstance(block, BasicBlock | Bottleneck):
                raise InputError(
                    f"{type(network).__name__}: {name} has stride {stride} by {type(block).__name__}, which cannot be "
                    f"dilated to {output_stride}; choose a residual network, or an output stride of {stride}"
                )
            dilation = _dilate_block(block, dilation)
        network.out_strides[name] = stride // dilation
    reached = max(network.out_strides.values())
    if reached > output_stride:
        raise InputError(f"an output stride of {output_stride} cannot be reached; the nearest is {reached}")


def _dilate_block(block: BasicBlock | Bottleneck, dilation: int) -> int:
    """Read every ``dilation``-th value and stride no more; how far apart the next block's values lie."""
    for name, _ in block.convolution_pairs():
        conv: Any = block.get_submodule(name)
        conv.dilation = tuple(rate * dilation for rate in conv.dilation)
        conv.padding = tuple(width * dilation for width in conv.padding)
        dilation *= conv.stride[0]
        conv.stride = (1, 1)
    if isinstance(block.shortcut, ProjectionShortcut):
        block.shortcut.conv.stride = (1, 1)
    elif isinstance(block.shortcut, PaddedShortcut):
        block.shortcut.stride = 1
    return dilation
