"""Dilation in place of stride: the same features at the old positions, torchvision's at all of them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from backbones.batch_norm import fold_batch_norm
from backbones.building import build_backbone
from backbones.contract import Backbone
from backbones.dilation import dilate
from backbones.errors import InputError
from backbones.weights.foreign_names import from_torchvision
from backbones.weights.loading import load_weights
from backbones.weights.saving import save_weights


def network(name: str) -> Backbone:
    """With statistics that are no identity, and in evaluation."""
    torch.manual_seed(0)
    made = build_backbone(name, num_classes=0)
    for norm in (module for module in made.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.normal_(norm.running_mean, 0, 0.1)
        nn.init.uniform_(norm.weight, 0.2, 0.6)
    return made.eval()


def features(of: Backbone, size: tuple[int, int]) -> dict[str, Tensor]:
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return of.features(images)


@pytest.mark.parametrize("output_stride", [16, 8, 4])
@pytest.mark.parametrize("name", ["resnet18", "resnet18_a", "plain18", "resnet50", "resnet50_v15"])
def test_at_the_old_positions_features_are_the_old_ones(name: str, output_stride: int) -> None:
    strided = network(name)
    dilated = copy.deepcopy(strided)
    dilate(dilated, output_stride)
    assert dilated.out_strides == {level: min(stride, output_stride) for level, stride in strided.out_strides.items()}
    size = (65, 46)
    before, after = features(strided, size), features(dilated, size)
    for level, stride in dilated.out_strides.items():
        step = strided.out_strides[level] // stride
        assert after[level].shape[2:] == tuple(-(-side // stride) for side in size)
        assert torch.allclose(after[level][:, :, ::step, ::step], before[level], atol=1e-5)


def test_features_are_those_of_torchvisions_dilated_network() -> None:
    torch.manual_seed(0)
    theirs = resnet50(replace_stride_with_dilation=[False, True, True]).double().eval()
    ours = build_backbone("resnet50_v15", num_classes=0).double().eval()
    dilate(ours, 8)
    body = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(from_torchvision(body))
    images = torch.randn(1, 3, 64, 72, dtype=torch.double)
    with torch.no_grad():
        x = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images)))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(x)))
        assert torch.allclose(ours.features(images)["c5"], expected, atol=1e-9)


def test_dilating_in_two_steps_is_dilating_at_once() -> None:
    once, twice = network("resnet18"), network("resnet18")
    dilate(once, 8)
    dilate(twice, 16)
    dilate(twice, 8)
    dilate(twice, 8)
    assert torch.equal(features(once, (64, 64))["c5"], features(twice, (64, 64))["c5"])


def test_weights_load_and_normalization_folds_as_before(tmp_path: Path) -> None:
    strided = network("resnet50")
    save_weights(strided, tmp_path / "w.safetensors", "resnet50")
    dilated = build_backbone("resnet50", num_classes=0).eval()
    dilate(dilated, 8)
    load_weights(dilated, tmp_path / "w.safetensors")
    before = features(dilated, (64, 64))["c5"]
    assert torch.allclose(before[:, :, ::4, ::4], features(strided, (64, 64))["c5"], atol=1e-5)
    assert torch.allclose(features(fold_batch_norm(dilated), (64, 64))["c5"], before, atol=1e-4)


def test_networks_that_are_fine_already_stay() -> None:
    for name, output_stride in (("resnet20", 8), ("vgg16", 16)):
        made = build_backbone(name, num_classes=0)
        strides = dict(made.out_strides)
        dilate(made, output_stride)
        assert made.out_strides == strides
    fine = build_backbone("resnet20", num_classes=0)
    dilate(fine, 2)
    assert list(fine.out_strides.values()) == [1, 1, 2, 2]


def test_what_cannot_be_dilated_is_refused() -> None:
    with pytest.raises(InputError, match=r"VGG: c5 has stride 16 by MaxPool2d.*or an output stride of 16"):
        dilate(build_backbone("vgg16", num_classes=0), 8)
    with pytest.raises(InputError, match="an output stride of 2 cannot be reached; the nearest is 4"):
        dilate(build_backbone("resnet18", num_classes=0), 2)
