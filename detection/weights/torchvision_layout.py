"""torchvision's Faster and Mask R-CNN on a feature pyramid, as its builders and ``resnet_fpn_backbone`` make them.

``fasterrcnn_resnet50_fpn``, its ``_v2`` and ``maskrcnn_resnet50_fpn`` are published; files of the first years name
some layers differently. Labels count from 1 behind the background, and COCO's are its 90 category ids, ten of which
no object has: those ten rows are left out. Training makes them as good as never: what they would have taken of the
probability falls to the others.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from backbones.convention import IMAGENET
from backbones.errors import InputError
from backbones.weights.file_content import FileContent
from backbones.weights.foreign_names import from_torchvision
from backbones.weights.variant_names import name_of
from detection.settings import AnchorSettings, DetectorSettings, MaskSettings, PoolSettings, ProposalSettings
from detection.weights.class_names import COCO, ClassNames, unknown
from detection.weights.contract import DetectorFormat, Facts, ForeignDetector
from detection.weights.layouts import OUR_EPS, Renaming, bins_first, chosen_rows, count, renamed, with_our_eps

_BODY = "backbone.body."
_SLOTS = max(COCO.category_ids) + 1
_RENAMED: Renaming = (
    (re.compile(r"^backbone\.fpn\.(inner|layer)_blocks\.(\d+)\.(weight|bias)$"), r"head.pyramid.\1_blocks.\2.0.\3"),
    (re.compile(r"^backbone\.fpn\."), "head.pyramid."),
    (re.compile(r"^rpn\.head\.conv\.(?=weight$|bias$)"), "rpn.convs.0."),
    (re.compile(r"^rpn\.head\.conv\.(\d+)\.0\."), r"rpn.convs.\1."),
    (re.compile(r"^rpn\.head\.cls_logits\."), "rpn.objectness."),
    (re.compile(r"^rpn\.head\.bbox_pred\."), "rpn.deltas."),
    (re.compile(r"^roi_heads\.box_head\.(?=fc[67]\.)"), "head."),
    (re.compile(r"^roi_heads\.box_head\.(\d+)\.([01])\."), r"head.convs.\1.\2."),
    (re.compile(r"^roi_heads\.box_predictor\.cls_score\."), "predictor.classes."),
    (re.compile(r"^roi_heads\.box_predictor\.bbox_pred\."), "predictor.deltas."),
    (re.compile(r"^roi_heads\.mask_head\.(\d+)\.0\."), r"masks.convs.\1."),
    (re.compile(r"^roi_heads\.mask_predictor\.conv5_mask\."), "masks.deconv."),
    (re.compile(r"^roi_heads\.mask_predictor\.mask_fcn_logits\."), "masks.logits."),
)  # those of the first years among them end in weight or bias where today's have a number
_OLD_MASK_CONV = re.compile(r"^roi_heads\.mask_head\.mask_fcn(\d+)\.")
_LINEAR = re.compile(r"^roi_heads\.box_head\.(\d+)\.(weight|bias)$")


def _recognises(names: Collection[str]) -> bool:
    return {"rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight"} <= set(names)


def _convert(content: FileContent, facts: Facts) -> ForeignDetector:
    slots = len(content.tensors["roi_heads.box_predictor.cls_score.weight"])
    classes, rows = _classes(slots, facts)
    body = {name.removeprefix(_BODY): tensor for name, tensor in content.tensors.items() if name.startswith(_BODY)}
    backbone = from_torchvision(body)
    tensors = {f"head.backbone.{name}": tensor for name, tensor in backbone.items()}
    linears = sorted({int(match[1]) for name in content.tensors if (match := _LINEAR.match(name))})
    for name, tensor in content.tensors.items():
        if not name.startswith(_BODY):
            tensors[_our_name(name, linears)] = tensor
    settings = _settings(tensors, classes, name_of(backbone, "3x3"))
    if facts.norm_eps != OUR_EPS:
        tensors = with_our_eps(tensors, facts.norm_eps)
    return ForeignDetector(_in_our_layout(tensors, settings, rows), settings)


def _classes(slots: int, facts: Facts) -> tuple[ClassNames, list[int]]:
    """The classes, and which of the file's labels they are."""
    if facts.classes is None and slots == _SLOTS:
        return COCO, list(COCO.category_ids)
    classes = facts.classes or unknown(slots - 1)
    if len(classes) != slots - 1:
        raise InputError(f"the file tells {slots - 1} classes apart, and {len(classes)} names are given")
    return classes, list(range(1, slots))


def _our_name(name: str, linears: list[int]) -> str:
    """``roi_heads.mask_head.0.0.bias`` -> ``masks.convs.0.bias``; names that are nobody's stay as they are."""
    if match := _LINEAR.match(name):
        return f"head.fc{6 + linears.index(int(match[1]))}.{match[2]}"
    if match := _OLD_MASK_CONV.match(name):
        return f"masks.convs.{int(match[1]) - 1}.{name[match.end() :]}"
    return renamed(name, _RENAMED)


def _settings(tensors: dict[str, Tensor], classes: ClassNames, backbone: str | None) -> DetectorSettings:
    levels = count(tensors, r"head\.pyramid\.inner_blocks\.\d+\.0\.weight")
    anchors = len(tensors["rpn.objectness.weight"])
    if backbone is None or levels != 4 or anchors != 3:
        raise InputError(
            f"is not one of those that are read: a ResNet with 4 levels and 3 anchors at each position; "
            f"it has {levels} levels, {anchors} anchors and {backbone or 'another backbone'}"
        )
    masks = None
    if "masks.logits.weight" in tensors:
        pool = PoolSettings(14, sampling_ratio=2, aligned=False)
        convs = count(tensors, r"masks\.convs\.\d+\.weight")
        masks = MaskSettings(pool, convs, tensors["masks.logits.weight"].shape[1], whole_pixels=True)
    return DetectorSettings(
        backbone,
        classes.names,
        classes.category_ids,
        convention=replace(IMAGENET, size=None, resize=None),
        anchors=AnchorSettings(whole_strides=True),
        pool=PoolSettings(7, sampling_ratio=2, aligned=False),
        train_proposals=ProposalSettings(2000, 2000),
        masks=masks,
        channels=len(tensors["head.pyramid.inner_blocks.0.0.weight"]),
        vector=len(tensors["head.fc6.weight"]),
        rpn_convs=count(tensors, r"rpn\.convs\.\d+\.weight"),
        box_convs=count(tensors, r"head\.convs\.\d+\.0\.weight"),
        box_linears=count(tensors, r"head\.fc\d\.weight"),
        neck_norm="head.pyramid.inner_blocks.0.1.weight" in tensors,
        frozen_norm=not count(tensors, r".*\.num_batches_tracked"),
    )


def _in_our_layout(tensors: dict[str, Tensor], settings: DetectorSettings, rows: list[int]) -> dict[str, Tensor]:
    changed = dict(tensors)
    changed["head.fc6.weight"] = bins_first(tensors["head.fc6.weight"], settings.channels)
    for kind in ("weight", "bias"):
        changed[f"predictor.classes.{kind}"] = chosen_rows(tensors[f"predictor.classes.{kind}"], [0, *rows])
        changed[f"predictor.deltas.{kind}"] = chosen_rows(tensors[f"predictor.deltas.{kind}"], rows, each=4)
        if settings.masks:
            changed[f"masks.logits.{kind}"] = chosen_rows(tensors[f"masks.logits.{kind}"], rows)
    return changed


TORCHVISION_DETECTORS = DetectorFormat("torchvision's", _recognises, _convert)
