"""Blocks and shortcuts of section 3."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backbones.blocks import BasicBlock, Bottleneck, PaddedShortcut, ProjectionShortcut, make_shortcut
from backbones.convention import IMAGENET, InputConvention
from backbones.normalization import Normalize, zero_outside


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_with_zero_weights_a_block_is_its_activated_shortcut(option: str) -> None:
    x = torch.randn(2, 8, 6, 6)
    block = BasicBlock(8, 16, 2, make_shortcut(option, 8, 16, 2)).eval()
    for part in (block.conv1, block.conv2, block.bn1, block.bn2):
        _zero(part)
    assert torch.equal(block(x), block.shortcut(x).relu())


def test_option_a_subsamples_and_appends_zero_channels() -> None:
    x = torch.randn(1, 3, 5, 5)
    out = PaddedShortcut(3, 5, 2)(x)
    assert torch.equal(out[:, :3], x[:, :, ::2, ::2])
    assert not out[:, 3:].any()
    assert not list(PaddedShortcut(3, 5, 2).parameters())


def test_options_choose_the_right_shortcut() -> None:
    kinds = {option: (type(make_shortcut(option, 8, 8, 1)), type(make_shortcut(option, 8, 16, 2))) for option in "ABC"}
    assert kinds == {
        "A": (nn.Identity, PaddedShortcut),
        "B": (nn.Identity, ProjectionShortcut),
        "C": (ProjectionShortcut, ProjectionShortcut),
    }


def test_a_plain_block_has_no_shortcut() -> None:
    block = BasicBlock(4, 4, 1, None).eval()
    _zero(block)
    assert not block(torch.randn(1, 4, 3, 3)).any()


@pytest.mark.parametrize("stride_on", ["1x1", "3x3"])
def test_a_bottleneck_widens_four_times(stride_on: str) -> None:
    block = Bottleneck(8, 4, 2, make_shortcut("B", 8, 16, 2), stride_on)
    assert block(torch.randn(2, 8, 6, 6)).shape == (2, 16, 3, 3)


def test_normalization_follows_the_convention() -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(Normalize(IMAGENET)(pixels), expected, atol=1e-5)


def test_bgr_networks_get_their_channels_reversed() -> None:
    caffe = InputConvention(mean=(100.0, 110.0, 120.0), std=(1.0, 1.0, 1.0), channels="BGR")
    pixels = torch.tensor([10.0, 20.0, 30.0]).reshape(1, 3, 1, 1)
    assert Normalize(caffe)(pixels).flatten().tolist() == [30 - 100, 20 - 110, 10 - 120]


def test_a_mean_picture_is_subtracted_pixel_by_pixel() -> None:
    picture = torch.rand(3, 2, 2) * 255
    normalize = Normalize(InputConvention((0.0,) * 3, (1.0,) * 3, size=(2, 2)), picture)
    assert not normalize(picture[None]).any()


def test_everything_outside_the_valid_area_is_zero() -> None:
    x = torch.ones(2, 1, 4, 4)
    out = zero_outside(x, torch.tensor([[2, 3], [4, 4]]))
    assert out[0].sum() == 6
    assert out[0, 0, :2, :3].all()
    assert out[1].sum() == 16


def test_conventions_survive_json() -> None:
    import json

    assert InputConvention.from_dict(json.loads(json.dumps(IMAGENET.to_dict()))) == IMAGENET
