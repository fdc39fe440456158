"""torchvision's stock Faster R-CNN and ours with the same weights: an oracle for tests, a peer for benchmarks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from backbones.weights.foreign_names import from_torchvision
from detection.building import build_detector, freeze_stages
from detection.detector import Detector
from detection.settings import InputSettings, PoolSettings, ProposalSettings, default_settings

_PARTS = {
    "rpn.head.conv.0.0.": "rpn.convs.0.",
    "rpn.head.cls_logits.": "rpn.objectness.",
    "rpn.head.bbox_pred.": "rpn.deltas.",
    "roi_heads.box_head.fc6.": "head.fc6.",
    "roi_heads.box_head.fc7.": "head.fc7.",
    "roi_heads.box_predictor.cls_score.": "predictor.classes.",
    "roi_heads.box_predictor.bbox_pred.": "predictor.deltas.",
    "backbone.fpn.": "head.pyramid.",
}


def make_twins(
    depth: int = 50, classes: int = 20, size: int = 480, seed: int = 0, spread: bool = True, **settings: Any
) -> tuple[FasterRCNN, Detector]:
    """A pair with equal, random, non-degenerate weights.

    Args:
        depth: 18 or 50.
        classes: without background.
        size: shorter side of the images that both will see; neither resizes them.
        seed: of the weights.
        spread: widen the scores, so that detections are distinct.
        **settings: fields of our ``DetectorSettings``.
    """
    torch.manual_seed(seed)
    body = resnet_fpn_backbone(
        backbone_name=f"resnet{depth}", weights=None, trainable_layers=3, norm_layer=_CalibratedNorm
    )
    theirs = FasterRCNN(body, classes + 1, min_size=size, max_size=2 * size)
    with torch.no_grad():
        theirs.backbone.train()(torch.randn(4, 3, 128, 128))
    _freeze(theirs)
    if spread:
        _spread(theirs)
    name = "resnet18" if depth == 18 else f"resnet{depth}_v15"
    ours_settings = default_settings(name, tuple(f"class {number}" for number in range(classes)))
    ours_settings = replace(
        ours_settings,
        pool=PoolSettings(aligned=False),
        input=InputSettings(size, 2 * size),
        train_proposals=ProposalSettings(2000, 2000),
        test_proposals=ProposalSettings(1000, 1000),
        **settings,
    )
    ours = build_detector(ours_settings)
    ours.load_state_dict({**ours.state_dict(), **translate(theirs.state_dict())})
    freeze_stages(ours, 2)
    return theirs, ours


def translate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names and layouts -> ours. fc6 reads bins before channels here, and background has no box."""
    body = {name.removeprefix("backbone.body."): v for name, v in state.items() if name.startswith("backbone.body.")}
    translated = {f"head.backbone.{name}": value for name, value in from_torchvision(body).items()}
    for name, value in state.items():
        prefix = next((prefix for prefix in _PARTS if name.startswith(prefix)), None)
        if prefix is None:
            continue
        if name == "roi_heads.box_head.fc6.weight":
            value = value.unflatten(1, (-1, 7, 7)).permute(0, 2, 3, 1).flatten(1)
        if name.startswith("roi_heads.box_predictor.bbox_pred."):
            value = value[4:]
        translated[_PARTS[prefix] + name.removeprefix(prefix)] = value
    return translated


class _CalibratedNorm(nn.BatchNorm2d):
    """Statistics of the first batch, as pretraining would have left them: activations keep their size."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=1.0)
        nn.init.uniform_(self.weight, 0.3, 0.7)
        nn.init.normal_(self.bias, 0, 0.1)


def _freeze(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, _CalibratedNorm):
            frozen = FrozenBatchNorm2d(child.num_features)
            frozen.load_state_dict({k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"})
            setattr(module, name, frozen)
        else:
            _freeze(child)


@torch.no_grad()
def _spread(theirs: FasterRCNN) -> None:
    """Give the outputs of each layer the deviation that a trained detector's have."""
    generator = torch.Generator().manual_seed(7)
    predictor = theirs.roi_heads.box_predictor
    pictures = [torch.rand(3, 128, 128, generator=generator) for _ in range(2)]
    for layer, wanted in (
        (theirs.rpn.head.cls_logits, 2.0),
        (theirs.rpn.head.bbox_pred, 0.3),
        (predictor.cls_score, 2.0),
        (predictor.bbox_pred, 0.5),
    ):
        layer.weight.normal_(0, 1, generator=generator)
        outputs: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, output, kept=outputs: kept.append(output.flatten()))
        theirs.eval()(pictures)
        hook.remove()
        layer.weight.mul_(wanted / torch.cat(outputs).std())
