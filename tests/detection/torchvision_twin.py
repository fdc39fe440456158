"""torchvision's stock detectors and ours with the same weights: an oracle for tests, a peer for benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, RPNHead, _default_anchorgen
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d

from backbones.freezing import freeze_stages
from backbones.weights.file_content import content_of
from detection.building import assemble
from detection.detections import Detections
from detection.detector import Detector
from detection.masks.run_length import RunLengthMasks
from detection.settings import InputSettings, ProposalSettings
from detection.weights.class_names import COCO_UNUSED_IDS, unknown
from detection.weights.contract import Facts
from detection.weights.torchvision_layout import TORCHVISION_DETECTORS
from tests.detection.spread_outputs import spread_outputs

KINDS = {
    "faster": "fasterrcnn_resnet50_fpn",
    "faster_v2": "fasterrcnn_resnet50_fpn_v2",
    "mask": "maskrcnn_resnet50_fpn",
}
"""And torchvision's builders of them."""
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
    longer: int = 0,
    channels: int = 256,
    proposals: int = 1000,
    body: Mapping[str, Tensor] | None = None,
    background: float = 0.0,
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
        longer: limit on the longer side; by default twice the shorter.
        channels: width of the pyramid and of the heads' convolutions.
        proposals: of each image, in testing; twice as many in training.
        body: a pretrained network's tensors by torchvision's names, random by default.
        background: added to the background's score, so that most regions hold nothing, as in trained detectors.
        **settings: fields of our ``DetectorSettings``.
    """
    torch.manual_seed(seed)
    limits = InputSettings(size, longer or 2 * size)
    theirs = build_theirs(depth, (classes or 90) + 1, kind, channels, min_size=size, max_size=limits.longer)
    theirs.rpn._post_nms_top_n.update(training=2 * proposals, testing=proposals)
    pictures = pictures or [torch.rand(3, 128, 128) for _ in range(2)]
    if body is None:
        _calibrate(theirs, pictures)
    else:
        theirs.backbone.body.load_state_dict({name: body[name] for name in theirs.backbone.body.state_dict()})
        _move_biases(theirs.backbone.fpn, theirs.rpn)
    if kind != "faster_v2":
        freeze(theirs)
    if spread:
        _spread(theirs, pictures)
    with torch.no_grad():
        theirs.roi_heads.box_predictor.cls_score.bias[0] += background
    if not classes:
        with torch.no_grad():
            theirs.roi_heads.box_predictor.cls_score.bias[list(COCO_UNUSED_IDS)] = NEVER
    facts = Facts(unknown(classes) if classes else None)
    foreign = TORCHVISION_DETECTORS.convert(content_of(theirs.state_dict()), facts)
    sizes = {
        "input": limits,
        "train_proposals": ProposalSettings(2000, 2 * proposals),
        "test_proposals": ProposalSettings(1000, proposals),
    }
    known = replace(foreign.settings, **{**sizes, **settings})
    ours = assemble(known, foreign.tensors, "twin")
    freeze_stages(ours.backbone, 2)
    return theirs, ours


def build_theirs(depth: int, slots: int, kind: str, channels: int = 256, **parts: Any) -> FasterRCNN:
    """As the builders of torchvision do, which know ResNet-50 and 256 channels only."""
    norm = nn.BatchNorm2d if kind == "faster_v2" else None
    body = getattr(resnet, f"resnet{depth}")(weights=None)
    for name, parameter in body.named_parameters():  # as with pretrained weights: conv1 and conv2_x learn nothing
        parameter.requires_grad_(name.startswith(("layer2", "layer3", "layer4")))
    widths = [body.inplanes // 8 * factor for factor in (1, 2, 4, 8)]
    layers = {f"layer{number + 1}": str(number) for number in range(4)}
    backbone = BackboneWithFPN(body, layers, widths, channels, norm_layer=norm)
    if kind == "faster_v2":
        parts["rpn_head"] = RPNHead(channels, _default_anchorgen().num_anchors_per_location()[0], conv_depth=2)
        parts["box_head"] = FastRCNNConvFCHead((channels, 7, 7), [channels] * 4, [1024], norm_layer=norm)
    if kind != "mask":
        return FasterRCNN(backbone, slots, **parts)
    head = MaskRCNNHeads(channels, [channels] * 4, 1)
    return MaskRCNN(
        backbone, mask_head=head, mask_predictor=MaskRCNNPredictor(channels, channels, slots), num_classes=None,
        box_predictor=FastRCNNPredictor(1024, slots), **parts,
    )  # fmt: skip


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


@torch.no_grad()
def _move_biases(*parts: nn.Module) -> None:
    """Off the zeros where they begin. After a quantised convolution whose biases are all zero OpenVINO 2026.4 gives
    zeros to a quantised reader of its output, if there is another reader in fp32."""
    generator = torch.Generator().manual_seed(11)
    for part in parts:
        for name, parameter in part.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, 0, 0.01, generator=generator)


def freeze(module: nn.Module) -> None:
    """As the builders do that start from pretrained weights."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features)
            frozen.load_state_dict({k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"})
            setattr(module, name, frozen)
        else:
            freeze(child)


def _spread(theirs: FasterRCNN, pictures: Sequence[Tensor]) -> None:
    """Give the outputs of each layer the deviation that a trained detector's have."""
    generator = torch.Generator().manual_seed(7)
    heads = theirs.roi_heads
    layers = [
        (theirs.rpn.head.cls_logits, 2.0),
        (theirs.rpn.head.bbox_pred, 0.15),
        (heads.box_predictor.cls_score, 2.0),
        (heads.box_predictor.bbox_pred, 0.5),
    ]
    if heads.mask_predictor is not None:
        layers.append((heads.mask_predictor.mask_fcn_logits, 4.0))
    for layer, _ in layers:
        nn.init.normal_(layer.weight, generator=generator)
    theirs.eval()
    spread_outputs(layers, lambda: theirs(pictures))


@torch.no_grad()
def their_detections(theirs: FasterRCNN, pictures: Sequence[Any], category_ids: Sequence[int]) -> list[Detections]:
    """What torchvision finds in pictures of the network's size, in our terms.

    Args:
        theirs: in any mode.
        pictures: uint8 arrays [H, W, 3].
        category_ids: their labels, by ours.
    """
    label = {number: label for label, number in enumerate(category_ids)}
    found = []
    for picture in pictures:
        (answer,) = theirs.eval()([torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255])
        boxes, scores, labels = (answer[name].numpy() for name in ("boxes", "scores", "labels"))
        masks = RunLengthMasks.from_dense((answer["masks"][:, 0] >= 0.5).numpy()) if "masks" in answer else None
        found.append(Detections(boxes, scores, np.array([label[number] for number in labels.tolist()]), masks))
    return found
