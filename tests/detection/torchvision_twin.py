"""torchvision's stock detectors and ours with the same weights: an oracle for tests, a peer for benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, RPNHead, _default_anchorgen
from torchvision.ops import FrozenBatchNorm2d

from backbones.weights.file_content import content_of
from detection.building import assemble, freeze_stages
from detection.detector import Detector
from detection.settings import InputSettings
from detection.weights.class_names import COCO_UNUSED_IDS, unknown
from detection.weights.contract import Facts
from detection.weights.torchvision_layout import TORCHVISION_DETECTORS

KINDS = ("faster", "faster_v2", "mask")
"""``fasterrcnn_resnet50_fpn``, its ``_v2`` and ``maskrcnn_resnet50_fpn``."""
NEVER = -20.0
"""A bias as training leaves it where no object ever has the class."""


def make_twins(
    depth: int = 50,
    classes: int = 20,
    size: int = 480,
    seed: int = 0,
    spread: bool = True,
    kind: str = "faster",
    pictures: Sequence[Tensor] = (),
    **settings: Any,
) -> tuple[FasterRCNN, Detector]:
    """A pair with equal, random, non-degenerate weights.

    Args:
        depth: 18 or 50.
        classes: without background; 0 takes the 90 category ids of COCO, of which ours has the 80 that are used.
        size: shorter side of the images that both will see; neither resizes them.
        seed: of the weights.
        spread: widen the scores, so that detections are distinct.
        kind: one of ``KINDS``.
        pictures: [3, H, W] in 0..1, to fit statistics and scores to; noise by default.
        **settings: fields of our ``DetectorSettings``.
    """
    torch.manual_seed(seed)
    theirs = build_theirs(depth, (classes or 90) + 1, size, kind)
    pictures = pictures or [torch.rand(3, 128, 128) for _ in range(2)]
    _calibrate(theirs, pictures)
    if kind != "faster_v2":
        freeze(theirs)
    if spread:
        _spread(theirs, pictures)
    if not classes:
        with torch.no_grad():
            theirs.roi_heads.box_predictor.cls_score.bias[list(COCO_UNUSED_IDS)] = NEVER
    facts = Facts(unknown(classes) if classes else None)
    foreign = TORCHVISION_DETECTORS.convert(content_of(theirs.state_dict()), facts)
    known = replace(foreign.settings, input=InputSettings(size, 2 * size), **settings)
    ours = assemble(known, foreign.tensors, "twin")
    freeze_stages(ours, 2)
    return theirs, ours


def build_theirs(depth: int, slots: int, size: int, kind: str) -> FasterRCNN:
    """As the builders of torchvision do, which know ResNet-50 only."""
    v2 = kind == "faster_v2"
    body = getattr(resnet, f"resnet{depth}")(weights=None)
    backbone = _resnet_fpn_extractor(body, 3, norm_layer=nn.BatchNorm2d if v2 else None)
    parts: dict[str, Any] = {"min_size": size, "max_size": 2 * size}
    if v2:
        channels = backbone.out_channels
        parts["rpn_head"] = RPNHead(channels, _default_anchorgen().num_anchors_per_location()[0], conv_depth=2)
        parts["box_head"] = FastRCNNConvFCHead((channels, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d)
    return (MaskRCNN if kind == "mask" else FasterRCNN)(backbone, slots, **parts)


@torch.no_grad()
def _calibrate(theirs: FasterRCNN, pictures: Sequence[Tensor]) -> None:
    """Statistics of the pictures, as training would have left them: activations keep their size."""
    norms = [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]
    theirs.eval()
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.3, 0.7)
        nn.init.normal_(norm.bias, 0, 0.1)
        norm.momentum = 1.0
        norm.train()
    theirs(pictures)
    for norm in norms:
        norm.eval()


def freeze(module: nn.Module) -> None:
    """As the builders do that start from pretrained weights."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features)
            frozen.load_state_dict({k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"})
            setattr(module, name, frozen)
        else:
            freeze(child)


@torch.no_grad()
def _spread(theirs: FasterRCNN, pictures: Sequence[Tensor]) -> None:
    """Give the outputs of each layer the deviation that a trained detector's have."""
    generator = torch.Generator().manual_seed(7)
    heads = theirs.roi_heads
    layers = [
        (theirs.rpn.head.cls_logits, 2.0),
        (theirs.rpn.head.bbox_pred, 0.3),
        (heads.box_predictor.cls_score, 2.0),
        (heads.box_predictor.bbox_pred, 0.5),
    ]
    if heads.mask_predictor is not None:
        layers.append((heads.mask_predictor.mask_fcn_logits, 4.0))
    for layer, wanted in layers:
        layer.weight.normal_(0, 1, generator=generator)
        outputs: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, output, kept=outputs: kept.append(output.flatten()))
        theirs.eval()(pictures)
        hook.remove()
        layer.weight.mul_(wanted / torch.cat(outputs).std())
