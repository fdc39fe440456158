"""Weights as detectron2's model zoo has them: its names and shapes, and numbers that are the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.images import Picture

Floats = NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
OUTPUTS = {
    "proposal_generator.rpn_head.objectness_logits": 2.0,
    "proposal_generator.rpn_head.anchor_deltas": 0.15,
    "roi_heads.box_predictor.cls_score": 2.0,
    "roi_heads.box_predictor.bbox_pred": 0.5,
    "roi_heads.mask_head.predictor": 4.0,
}
"""Output layers, in the order in which they depend on each other, and the deviation that their answers shall have."""


SHORTER, LONGER, PROPOSALS, DETECTIONS, CLASSES = 96, 160, 40, 10, 5
SMALL_CASES = {
    "mask_rcnn_R_50_C4": ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", "C4", 50, True),
    "mask_rcnn_R_101_FPN": ("COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml", "FPN", 101, True),
}
"""Whole networks on one small picture, which detectron2 has answered once (``detectron2_answers.json``)."""


def small_picture() -> Picture:
    """Patches of colour with some noise. [75, 110, 3]."""
    patches = np.kron(pseudo_random(5 * 6 * 3, 1).reshape(5, 6, 3), np.ones((15, 19, 1)))[:, :110]
    noise = pseudo_random(patches.size, 2).reshape(patches.shape)
    return np.clip(128 + 100 * patches + 20 * noise, 0, 255).astype(np.uint8)


def with_outputs(
    model: Mapping[str, Floats], outputs: Mapping[str, tuple[float, Sequence[float]]]
) -> dict[str, Floats]:
    """Weights whose output layers are multiplied by a factor and have other biases, by the layer's name."""
    changed = dict(model)
    for layer, (factor, bias) in outputs.items():
        changed[f"{layer}.weight"] = model[f"{layer}.weight"] * np.float32(factor)
        changed[f"{layer}.bias"] = np.array(bias, np.float32)
    return changed


def zoo_content(design: str, depth: int, masks: bool, classes: int = 80) -> dict[str, Any]:
    """What the pickle of a model zoo's file holds, with pseudo-random numbers.

    Args:
        design: ``C4`` or ``FPN``.
        depth: 50 or 101.
        masks: with a mask branch.
        classes: without background.
    """
    shapes = zoo_shapes(design, depth, masks, classes)
    values = {name: _values(name, shape, seed) for seed, (name, shape) in enumerate(shapes.items())}
    return {"model": values, "__author__": "pseudo-random"}


def zoo_shapes(design: str, depth: int, masks: bool, classes: int) -> Shapes:
    """Names and shapes of all tensors."""
    pyramid = design == "FPN"
    prefix = "backbone.bottom_up." if pyramid else "backbone."
    shapes: Shapes = {}
    _add_conv(shapes, f"{prefix}stem.conv1", 64, 3, 7, norm=True)
    for stage, blocks in enumerate(BLOCKS[depth], start=2):
        home = "roi_heads." if stage == 5 and not pyramid else prefix
        for block in range(blocks):
            _add_block(shapes, f"{home}res{stage}.{block}", 64 << (stage - 2), first=block == 0, stage=stage)
    if pyramid:
        for level in range(2, 6):
            _add_conv(shapes, f"backbone.fpn_lateral{level}", 256, 64 << level, 1)
            _add_conv(shapes, f"backbone.fpn_output{level}", 256, 256, 3)
    channels, anchors = (256, 3) if pyramid else (1024, 15)
    _add_conv(shapes, "proposal_generator.rpn_head.conv", channels, channels, 3)
    _add_conv(shapes, "proposal_generator.rpn_head.objectness_logits", anchors, channels, 1)
    _add_conv(shapes, "proposal_generator.rpn_head.anchor_deltas", anchors * 4, channels, 1)
    vector = 1024 if pyramid else 2048
    if pyramid:
        _add_linear(shapes, "roi_heads.box_head.fc1", vector, 256 * 7 * 7)
        _add_linear(shapes, "roi_heads.box_head.fc2", vector, vector)
    _add_linear(shapes, "roi_heads.box_predictor.cls_score", classes + 1, vector)
    _add_linear(shapes, "roi_heads.box_predictor.bbox_pred", classes * 4, vector)
    if masks:
        for number in range(1, 5) if pyramid else ():
            _add_conv(shapes, f"roi_heads.mask_head.mask_fcn{number}", 256, 256, 3)
        shapes["roi_heads.mask_head.deconv.weight"] = (256 if pyramid else vector, 256, 2, 2)
        shapes["roi_heads.mask_head.deconv.bias"] = (256,)
        _add_conv(shapes, "roi_heads.mask_head.predictor", classes, 256, 1)
    return shapes


def pseudo_random(count: int, seed: int) -> Floats:
    """Numbers in -1..1 by hashing their places: integer arithmetic, hence the same everywhere. [count]."""
    x = np.arange(count, dtype=np.uint32) + np.uint32(seed * 2_654_435_761 % 2**32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return ((x ^ (x >> np.uint32(16))) / 2**31 - 1).astype(np.float32)


def _add_conv(shapes: Shapes, name: str, outputs: int, inputs: int, size: int, norm: bool = False) -> None:
    shapes[f"{name}.weight"] = (outputs, inputs, size, size)
    if norm:
        shapes.update({f"{name}.norm.{kind}": (outputs,) for kind in ("weight", "bias", "running_mean", "running_var")})
    else:
        shapes[f"{name}.bias"] = (outputs,)


def _add_linear(shapes: Shapes, name: str, outputs: int, inputs: int) -> None:
    shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _add_block(shapes: Shapes, name: str, width: int, first: bool, stage: int) -> None:
    inputs = width * 4 if not first else 64 if stage == 2 else width * 2
    if first:
        _add_conv(shapes, f"{name}.shortcut", width * 4, inputs, 1, norm=True)
    _add_conv(shapes, f"{name}.conv1", width, inputs, 1, norm=True)
    _add_conv(shapes, f"{name}.conv2", width, width, 3, norm=True)
    _add_conv(shapes, f"{name}.conv3", width * 4, width, 1, norm=True)


def _values(name: str, shape: tuple[int, ...], seed: int) -> Floats:
    noise = pseudo_random(int(np.prod(shape)), seed).reshape(shape)
    layer, _, kind = name.rpartition(".")
    if kind == "running_var" or (kind == "weight" and layer.endswith("norm")):
        centre = 0.3 if layer.endswith("conv3.norm") and kind == "weight" else 1.0  # branches add little
        return (centre * (1 + 0.2 * noise)).astype(np.float32)
    if kind != "weight":
        return (0.1 * noise).astype(np.float32)
    fan = shape[0] if layer.endswith("deconv") else np.prod(shape[1:])
    rectified = "fpn" not in name and layer not in OUTPUTS
    deviation = np.sqrt((2 if rectified else 1) / fan) / (60 if layer.endswith("stem.conv1") else 1)  # pixels: 0..255
    return (noise * np.sqrt(3) * deviation).astype(np.float32)
