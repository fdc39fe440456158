"""detectron2's Faster and Mask R-CNN, C4 and with a feature pyramid, as its model zoo trains them on COCO.

The background is its last class, anchors are ordered by size and then by ratio, and RoIAlign takes as many samples as
a bin has feature-map pixels. Its C4 detectors see pictures without padding.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import Tensor

from backbones.errors import InputError
from backbones.weights.file_content import FileContent
from backbones.weights.formats.detectron2_layout import DETECTRON2
from detection.settings import (
    AnchorSettings,
    DetectorSettings,
    InputSettings,
    MaskSettings,
    PoolSettings,
    default_settings,
)
from detection.weights.class_names import COCO, unknown
from detection.weights.contract import DetectorFormat, Facts, ForeignDetector
from detection.weights.layouts import (
    OUR_EPS,
    Renaming,
    bins_first,
    chosen_rows,
    count,
    ratios_outermost,
    renamed,
    with_our_eps,
)

_CONSTANTS = re.compile(r"^pixel_(mean|std)$|^proposal_generator\.anchor_generator\.cell_anchors\.")
"""Older files hold what the configuration says already."""
_BACKBONE = re.compile(r"^backbone\.(bottom_up|stem|res\d)\.|^roi_heads\.res5\.")
_SIZES = (32, 64, 128, 256, 512)
_RATIOS = 3
_CONV = re.compile(r"^roi_heads\.(box_head\.conv|mask_head\.mask_fcn)(\d+)\.")
_PYRAMID = re.compile(r"^backbone\.fpn_(lateral|output)(\d)\.(norm\.)?")
_RENAMED: Renaming = (
    (re.compile(r"^proposal_generator\.rpn_head\.conv\.(?=weight$|bias$)"), "rpn.convs.0."),
    (re.compile(r"^proposal_generator\.rpn_head\.conv\.conv(\d+)\."), r"rpn.convs.\1."),
    (re.compile(r"^proposal_generator\.rpn_head\.objectness_logits\."), "rpn.objectness."),
    (re.compile(r"^proposal_generator\.rpn_head\.anchor_deltas\."), "rpn.deltas."),
    (re.compile(r"^roi_heads\.box_head\.fc1\."), "head.fc6."),
    (re.compile(r"^roi_heads\.box_head\.fc2\."), "head.fc7."),
    (re.compile(r"^roi_heads\.box_predictor\.cls_score\."), "predictor.classes."),
    (re.compile(r"^roi_heads\.box_predictor\.bbox_pred\."), "predictor.deltas."),
    (re.compile(r"^roi_heads\.mask_head\.deconv\."), "masks.deconv."),
    (re.compile(r"^roi_heads\.mask_head\.predictor\."), "masks.logits."),
)


def _recognises(names: Collection[str]) -> bool:
    wanted = {"proposal_generator.rpn_head.objectness_logits.weight", "roi_heads.box_predictor.cls_score.weight"}
    return wanted <= set(names)


def _convert(content: FileContent, facts: Facts) -> ForeignDetector:
    trunk = {name: tensor for name, tensor in content.tensors.items() if _BACKBONE.match(name)}
    constants = {name: tensor for name, tensor in content.tensors.items() if _CONSTANTS.match(name)}
    network = DETECTRON2.convert(FileContent({**trunk, **constants}, content.about))
    tensors = {f"head.backbone.{name}": tensor for name, tensor in network.tensors.items()}
    for name, tensor in content.tensors.items():
        if name not in trunk and name not in constants:
            tensors[_our_name(name)] = tensor
    if network.backbone is None:
        raise InputError("its backbone is not one of the ResNets that are read (R-50, R-101, R-152)")
    changes = {**_common_settings(tensors, facts), "convention": replace(network.convention, size=None, resize=None)}
    pyramid = "head.pyramid.inner_blocks.0.0.weight" in tensors
    if not pyramid and not count(content.tensors, r"roi_heads\.res5\..*"):
        raise InputError("is neither a C4 detector nor one with a feature pyramid")
    settings = (_fpn_settings if pyramid else _c4_settings)(network.backbone, tensors, changes)
    if facts.norm_eps != OUR_EPS:
        tensors = with_our_eps(tensors, facts.norm_eps)
    return ForeignDetector(_in_our_layout(tensors, settings), settings, tuple(constants))


def _our_name(name: str) -> str:
    """``roi_heads.mask_head.mask_fcn1.bias`` -> ``masks.convs.0.bias``; names that are nobody's stay as they are."""
    if match := _PYRAMID.match(name):
        blocks = "inner_blocks" if match[1] == "lateral" else "layer_blocks"
        return f"head.pyramid.{blocks}.{int(match[2]) - 2}.{'1' if match[3] else '0'}.{name[match.end() :]}"
    if match := _CONV.match(name):
        number, rest = int(match[2]) - 1, name[match.end() :]
        if match[1] == "mask_head.mask_fcn":
            return f"masks.convs.{number}.{rest}"
        return f"head.convs.{number}." + (f"1.{rest[5:]}" if rest.startswith("norm.") else f"0.{rest}")
    return renamed(name, _RENAMED)


def _common_settings(tensors: dict[str, Tensor], facts: Facts) -> dict[str, Any]:
    told_apart = len(tensors["predictor.classes.weight"]) - 1
    classes = facts.classes or (COCO if told_apart == len(COCO) else unknown(told_apart))
    if len(classes) != told_apart:
        raise InputError(f"the file tells {told_apart} classes apart, and {len(classes)} names are given")
    return {
        "classes": classes.names,
        "category_ids": classes.category_ids,
        "rpn_convs": count(tensors, r"rpn\.convs\.\d+\.weight"),
        "frozen_norm": not count(tensors, r".*\.num_batches_tracked"),
        "rpn_beta": 0.0,
        "roi_beta": 0.0,
    }


def _fpn_settings(backbone: str, tensors: dict[str, Tensor], changes: dict[str, Any]) -> DetectorSettings:
    _check_anchors(tensors, _RATIOS)
    convs = count(tensors, r"masks\.convs\.\d+\.weight")
    return default_settings(
        backbone,
        anchors=AnchorSettings(rounded=False),
        pool=PoolSettings(7, sampling_ratio=0),
        masks=_masks(tensors, PoolSettings(14, sampling_ratio=0), convs),
        channels=len(tensors["head.pyramid.inner_blocks.0.0.weight"]),
        vector=len(tensors["head.fc6.weight"]),
        box_convs=count(tensors, r"head\.convs\.\d+\.0\.weight"),
        box_linears=count(tensors, r"head\.fc\d\.weight"),
        neck_norm="head.pyramid.inner_blocks.0.1.weight" in tensors,
        **changes,
    )


def _c4_settings(backbone: str, tensors: dict[str, Tensor], changes: dict[str, Any]) -> DetectorSettings:
    _check_anchors(tensors, len(_SIZES) * _RATIOS)
    pool = PoolSettings(14, sampling_ratio=0)
    return default_settings(
        backbone,
        head="c4",
        input=InputSettings(multiple=1),
        anchors=AnchorSettings(sizes=(_SIZES,), rounded=False),
        pool=pool,
        masks=_masks(tensors, pool, 0),
        **changes,
    )


def _masks(tensors: dict[str, Tensor], pool: PoolSettings, convs: int) -> MaskSettings | None:
    logits = tensors.get("masks.logits.weight")
    return None if logits is None else MaskSettings(pool, convs, logits.shape[1])


def _check_anchors(tensors: dict[str, Tensor], expected: int) -> None:
    anchors = len(tensors["rpn.objectness.weight"])
    if anchors != expected:
        raise InputError(f"has {anchors} anchors at each position; files with {expected} are read (sizes {_SIZES})")


def _in_our_layout(tensors: dict[str, Tensor], settings: DetectorSettings) -> dict[str, Tensor]:
    changed = dict(tensors)
    background_first = [len(settings.classes), *range(len(settings.classes))]
    for kind in ("weight", "bias"):
        changed[f"predictor.classes.{kind}"] = chosen_rows(tensors[f"predictor.classes.{kind}"], background_first)
        for layer in ("rpn.objectness", "rpn.deltas"):
            sizes = len(settings.anchors.sizes[0])
            changed[f"{layer}.{kind}"] = ratios_outermost(tensors[f"{layer}.{kind}"], sizes, _RATIOS)
    if "head.fc6.weight" in tensors:
        changed["head.fc6.weight"] = bins_first(tensors["head.fc6.weight"], settings.channels)
    return changed


DETECTRON2_DETECTORS = DetectorFormat("detectron2's", _recognises, _convert)
