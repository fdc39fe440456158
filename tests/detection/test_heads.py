"""What the heads share, and the VGG head against torchvision's network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import vgg16
from torchvision.ops import roi_align, roi_pool

from backbones import build_backbone
from backbones.errors import InputError
from detection.building import build_detector, build_head
from detection.head_table import HEADS
from detection.heads.c4 import C4Head
from detection.heads.vgg import VGGHead
from detection.operators import EAGER
from detection.pooling import SingleScalePooler
from detection.roi_pool import pool_regions, with_image_numbers
from detection.settings import DetectorSettings, PoolSettings, default_settings
from detection.training.options import TrainingOptions, design, resolve
from tests.detection.builders import random_targets, small_detector


def boxes_and_levels() -> tuple[list[Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 6, 32 // 2**n, 40 // 2**n, generator=generator) for n in range(2)]
    corner = torch.rand(2, 15, 2, generator=generator) * 80
    boxes = torch.cat((corner, corner + torch.rand(2, 15, 2, generator=generator) * 60 + 1), -1)
    return features, boxes, torch.randint(0, 2, (2, 15), generator=generator)


@pytest.mark.parametrize("settings", [
    PoolSettings(size=5, kind="pool"),
    PoolSettings(size=5, sampling_ratio=0),
    PoolSettings(size=5, sampling_ratio=0, aligned=False),
])  # fmt: skip
def test_regions_are_pooled_from_their_own_level(settings: PoolSettings) -> None:
    features, boxes, levels = boxes_and_levels()
    pooled = pool_regions(features, (4, 8), boxes, levels, settings, EAGER.roi_align)
    regions, flat = with_image_numbers(boxes), levels.flatten()
    for number, region in enumerate(regions):
        level, stride = features[flat[number]], (4, 8)[flat[number]]
        if settings.kind == "pool":
            wanted = roi_pool(level, region[None], 5, 1 / stride)
        else:
            wanted = roi_align(level, region[None], 5, 1 / stride, 0, settings.aligned)
        assert torch.equal(pooled[number], wanted[0])


def test_roi_pooling_takes_the_maximum_of_whole_pixels() -> None:
    feature = torch.arange(64.0).reshape(1, 1, 8, 8)
    box = torch.tensor([[[0.0, 0, 63, 63]]])  # corners at pixels 0 and 4 of stride 16: five pixels a side
    pooled = pool_regions(
        [feature], (16,), box, torch.zeros(1, 1, dtype=torch.long), PoolSettings(2, kind="pool"), EAGER.roi_align
    )
    assert pooled.flatten().tolist() == [18, 20, 34, 36]


def test_the_vgg_head_computes_what_the_classifier_does() -> None:
    """With one region that is the whole picture, fc7 is torchvision's, from its own pretrained layout."""
    torch.manual_seed(0)
    theirs = vgg16(weights=None).eval()
    backbone = build_backbone("vgg16", num_classes=0)
    settings = default_settings("vgg16", ("a", "b"), "vgg")
    head = build_head(backbone, settings)
    assert isinstance(head, VGGHead)
    state = {
        f"conv{n}_x.{name}": value for n in range(1, 6) for name, value in backbone.stage(f"c{n}").state_dict().items()
    }
    ours = [name for name in state if name.endswith("weight")]
    modules = [module for module in theirs.features if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad():
        for name, module in zip(ours, modules, strict=True):
            backbone.get_parameter(name).copy_(module.weight)
            backbone.get_parameter(name.replace("weight", "bias")).copy_(module.bias)
    tensors = {f"classifier.fc{n}.{part}": getattr(theirs.classifier[place], part)
               for n, place in ((6, 0), (7, 3)) for part in ("weight", "bias")}  # fmt: skip
    assert head.load_linears(tensors)
    image = torch.randn(1, 3, 112, 112)
    with torch.inference_mode():
        features = head.eval().features(image)
        assert features[0].shape == (1, 512, 7, 7)
        wanted = theirs.classifier[:5](theirs.features[:30](image).flatten(1))
        assert torch.allclose(head.vectors(features[0]), wanted, atol=1e-4)


def test_linear_layers_of_another_width_start_afresh() -> None:
    settings = default_settings("vgg16", ("a",), "vgg", vector=32)
    head = build_head(build_backbone("vgg16", num_classes=0), settings)
    assert isinstance(head, VGGHead)
    before = head.fc7.weight.clone()
    assert not head.load_linears({})
    assert not head.load_linears(
        {f"classifier.{n}": torch.zeros(4096) for n in head.state_dict() if n.startswith("fc")}
    )
    assert torch.equal(before, head.fc7.weight)


def test_the_vgg_detector_trains_and_predicts() -> None:
    detector = small_detector("vgg").train()
    targets = random_targets(2, 4, 0)
    images = torch.randint(0, 255, (2, 3, 128, 128), dtype=torch.uint8)
    losses = detector.losses(images, targets)
    sum(losses.values()).backward()
    assert set(losses) == {"rpn_objectness", "rpn_boxes", "classes", "boxes"}
    assert all(parameter.grad is not None for parameter in detector.parameters())
    found = detector.predict([np.zeros((90, 120, 3), np.uint8)])
    assert len(found) == 1


@pytest.mark.parametrize(("head", "backbone"), [("fpn", "vgg16"), ("c4", "vgg16"), ("vgg", "resnet18")])
def test_a_head_on_the_wrong_backbone_is_refused(head: str, backbone: str) -> None:
    with pytest.raises(InputError, match=f"--head {head} does not fit {backbone}; use --head"):
        build_detector(default_settings(backbone, ("a",), head))


def test_the_v2_layout_has_norms_convolutions_and_one_linear_layer() -> None:
    detector = small_detector(rpn_convs=2, box_convs=4, box_linears=1, neck_norm=True, frozen_norm=True)
    names = set(detector.state_dict())
    assert {"rpn.convs.1.weight", "head.convs.3.0.weight", "head.convs.3.1.running_var", "head.fc6.weight"} <= names
    assert "head.pyramid.inner_blocks.0.1.running_mean" in names
    assert not {"head.fc7.weight", "head.convs.0.0.bias"} & names
    assert not any(name.endswith("num_batches_tracked") for name in names)
    assert len(detector.predict([np.zeros((128, 128, 3), np.uint8)])) == 1


def test_poolers_can_pool_for_masks_at_another_size() -> None:
    detector = small_detector().eval()
    features = detector.head.features(torch.randn(2, 3, 128, 128))
    pooled = SingleScalePooler(detector.head, features, EAGER)(
        boxes_and_levels()[1], replace(detector.head.pool, size=14)
    )
    assert pooled.shape == (30, 16, 14, 14)


class OneMoreHead(C4Head):
    """A head that only this file and one row of the table know."""


def test_another_head_is_a_row_and_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(HEADS["c4"], maker=f"{__name__}:OneMoreHead")
    monkeypatch.setitem(HEADS, "more", row)
    options = resolve(TrainingOptions(head="more", pool="pool", region_samples=8))
    assert (options.head, options.backbone, options.anchor_sizes) == ("more", "resnet20", (16, 32, 64))
    detector = build_detector(replace(design(options), classes=("a", "b")))
    assert isinstance(detector.head, OneMoreHead)
    assert DetectorSettings.from_dict(detector.settings.to_dict()) == detector.settings
    with pytest.raises(InputError, match="--channels has no meaning for --head more; only for fpn and fcn"):
        resolve(TrainingOptions(head="more", channels=8))
