"""torchvision's detectors and segmenters on our networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.segmentation import FCN
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import MultiScaleRoIAlign

from backbones.batch_norm import FrozenBatchNorm2d
from backbones.errors import InputError
from backbones.plugins.torchvision import FeatureMaps, fpn_backbone, segmentation_backbone, single_map_backbone
from tests.backbones.plugins.conftest import BGR, our_maps

SMALL = {"min_size": 64, "max_size": 96, "rpn_pre_nms_top_n_train": 50, "rpn_post_nms_top_n_train": 20}


def pictures() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two pictures in [0, 1] with a box, a label and a mask each."""
    masks = torch.zeros(1, 64, 96, dtype=torch.uint8)
    masks[:, 10:50, 20:70] = 1
    target = {"boxes": torch.tensor([[20.0, 10.0, 70.0, 50.0]]), "labels": torch.tensor([1]), "masks": masks}
    return list(torch.rand(2, 3, 64, 96)), [target, target]


def test_the_pyramid_has_torchvisions_levels(images: Tensor) -> None:
    backbone = fpn_backbone("resnet18", out_channels=32)
    shapes = {name: tuple(level.shape) for name, level in backbone(images).items()}
    assert shapes == {
        "0": (2, 32, 16, 24), "1": (2, 32, 8, 12), "2": (2, 32, 4, 6), "3": (2, 32, 2, 3), "pool": (2, 32, 1, 2)
    }  # fmt: skip
    assert backbone.out_channels == 32


def test_the_maps_under_the_pyramid_are_ours(weights_file: Path, images: Tensor) -> None:
    backbone = fpn_backbone("resnet18", weights_file).eval()
    with torch.no_grad():
        found = FeatureMaps.forward(backbone, images)
    expected = our_maps(weights_file, images)
    for theirs, ours in (("0", "c2"), ("3", "c5")):
        assert torch.allclose(found[theirs], expected[ours], rtol=1e-3, atol=1e-4)


def test_mask_rcnn_trains_a_step() -> None:
    torch.manual_seed(0)
    backbone = fpn_backbone("resnet18", out_channels=32)
    model = MaskRCNN(backbone, 3, image_mean=backbone.image_mean, image_std=backbone.image_std, **SMALL)
    stem = backbone.network.get_submodule("stem.conv").weight
    before = stem.detach().clone()
    losses = model(*pictures())
    assert set(losses) >= {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert not torch.equal(stem, before)


def test_faster_rcnn_runs_on_a_single_map_and_on_a_network_of_another_package(toy: str) -> None:
    backbone = single_map_backbone(toy, last="c3")
    anchors = AnchorGenerator(((16, 32),), ((1.0,),))
    pool = MultiScaleRoIAlign(["0"], 7, 2)
    model = FasterRCNN(backbone, 3, rpn_anchor_generator=anchors, box_roi_pool=pool, **SMALL)
    sum(model(*pictures()).values()).backward()
    assert backbone.network.get_submodule("patches").weight.grad is not None
    assert set(model.eval()(pictures()[0])[0]) == {"boxes", "labels", "scores"}
    pyramid = fpn_backbone(toy, out_channels=8)
    assert list(pyramid(torch.zeros(1, 3, 64, 64))) == ["0", "1", "2", "pool"]


def test_a_segmenter_trains_a_step(images: Tensor) -> None:
    backbone = segmentation_backbone("resnet18", out="c5", aux="c4")
    model = FCN(backbone, FCNHead(backbone.out_channels, 5), FCNHead(256, 5))
    scores = model(images)
    assert {name: tuple(value.shape) for name, value in scores.items()} == {
        "out": (2, 5, 64, 96), "aux": (2, 5, 64, 96)
    }  # fmt: skip
    nn.functional.cross_entropy(scores["out"], torch.zeros(2, 64, 96, dtype=torch.long)).backward()
    assert backbone.network.get_submodule("stem.conv").weight.grad is not None


def test_normalization_is_stated_for_pixels_in_unit_range(weights_file: Path) -> None:
    backbone = fpn_backbone("resnet18", weights_file)
    assert backbone.image_mean == pytest.approx([0.485, 0.456, 0.406])
    assert backbone.image_std == pytest.approx([0.229, 0.224, 0.225])


def test_bgr_weights_see_bgr(bgr_file: Path, images: Tensor) -> None:
    backbone = single_map_backbone("resnet18", bgr_file, last="c5").eval()
    assert backbone.image_mean == pytest.approx([value / 255 for value in reversed(BGR.mean)])
    assert backbone.image_std == pytest.approx([0.8, 0.4, 0.2])
    with torch.no_grad():
        found = backbone(images)["0"]
    assert torch.allclose(found, our_maps(bgr_file, images.flip(1))["c5"], rtol=1e-3, atol=1e-4)


def test_pretrained_networks_freeze_two_stages_and_every_norm(weights_file: Path) -> None:
    network = fpn_backbone("resnet18", weights_file).network
    learning = {name.split(".")[0] for name, value in network.named_parameters() if value.requires_grad}
    assert learning == {"conv3_x", "conv4_x", "conv5_x"}
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def test_fresh_networks_learn_everywhere() -> None:
    network = fpn_backbone("resnet18").network
    assert all(value.requires_grad for value in network.parameters())
    assert not [m for m in network.modules() if isinstance(m, FrozenBatchNorm2d)]


def test_trainable_layers_count_from_the_last_stage(weights_file: Path) -> None:
    network = fpn_backbone("resnet18", weights_file, trainable_layers=1, frozen_norm=False).network
    assert {name.split(".")[0] for name, value in network.named_parameters() if value.requires_grad} == {"conv5_x"}
    assert [type(network.get_submodule(f"{s}_x.0.bn1")) for s in ("conv4", "conv5")] == [
        FrozenBatchNorm2d, nn.BatchNorm2d
    ]  # fmt: skip


def test_stages_that_nobody_reads_are_removed() -> None:
    backbone = fpn_backbone("resnet18", maps=("c2", "c3"))
    assert list(backbone.network.out_channels) == ["c1", "c2", "c3"]


def test_unknown_maps_are_named() -> None:
    with pytest.raises(InputError, match="resnet20 has no feature map 'c5'; it has c1, c2, c3, c4"):
        fpn_backbone("resnet20", maps=("c4", "c5"))
    with pytest.raises(InputError, match="no feature map; it has"):
        fpn_backbone("resnet20", maps=())
