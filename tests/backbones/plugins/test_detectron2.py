"""detectron2's contract with its backbones, on a stub of it: registry, base class, shapes, config."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones.batch_norm import FrozenBatchNorm2d
from backbones.errors import InputError
from tests.backbones.plugins.conftest import our_maps
from tests.backbones.plugins.detectron2_stub import modules

PLUGIN = "backbones.plugins.detectron2"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Our module, imported where the stub is detectron2."""
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)
    fresh = import_module(PLUGIN)
    monkeypatch.setitem(sys.modules, PLUGIN, fresh)
    return fresh


def config(plugin: ModuleType, builder: str = "build_shortcut_backbone", **ours: Any) -> Any:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    plugin.add_shortcut_config(cfg)
    cfg.MODEL.BACKBONE.NAME = builder
    cfg.MODEL.SHORTCUT.NAME = "resnet18"
    for key, value in ours.items():
        cfg.MODEL.SHORTCUT[key] = value
    return cfg


def build(cfg: Any) -> nn.Module:
    from detectron2.modeling import build_backbone

    return build_backbone(cfg)


def learning(module: nn.Module) -> set[str]:
    return {name.split(".")[1] for name, value in module.named_parameters() if value.requires_grad}


def test_the_registered_backbone_keeps_what_it_states(plugin: ModuleType, images: Tensor) -> None:
    from detectron2.modeling import Backbone

    backbone = build(config(plugin))
    assert isinstance(backbone, Backbone)
    assert (backbone.size_divisibility, backbone.padding_constraints) == (0, {})
    shapes = {name: (shape.channels, shape.stride) for name, shape in backbone.output_shape().items()}
    assert shapes == {"res2": (64, 4), "res3": (128, 8), "res4": (256, 16), "res5": (512, 32)}
    maps = backbone(images)
    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        name: (2, channels, 64 // stride, 96 // stride) for name, (channels, stride) in shapes.items()
    }


def test_maps_are_those_of_the_weights(plugin: ModuleType, weights_file: Path, images: Tensor) -> None:
    cfg = config(plugin, WEIGHTS=str(weights_file), OUT_FEATURES=["stem", "res4"])
    plugin.set_input_convention(cfg)
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_STD) == ("RGB", [58.395, 57.12, 57.375])
    backbone = build(cfg)
    with torch.no_grad():
        maps = backbone(images)
    expected = our_maps(weights_file, images)
    assert list(maps) == list(backbone.output_shape()) == ["stem", "res4"]
    assert torch.allclose(maps["stem"], expected["c1"], rtol=1e-3, atol=1e-4)
    assert torch.allclose(maps["res4"], expected["c4"], rtol=1e-3, atol=1e-4)
    assert not list(backbone.network.get_submodule("conv5_x").parameters())


def test_weights_refuse_detectron2s_default_input(plugin: ModuleType, weights_file: Path, bgr_file: Path) -> None:
    cfg = config(plugin, WEIGHTS=str(weights_file))
    with pytest.raises(InputError, match=r"expects INPUT.FORMAT RGB.*set_input_convention\(cfg\)"):
        build(cfg)
    cfg = config(plugin, WEIGHTS=str(bgr_file))
    plugin.set_input_convention(cfg)
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN) == ("BGR", [103.53, 116.28, 123.675])
    build(cfg)


@pytest.mark.parametrize(
    ("freeze_at", "expected"),
    [
        (0, {"stem", "conv2_x", "conv3_x", "conv4_x", "conv5_x"}),
        (1, {"conv2_x", "conv3_x", "conv4_x", "conv5_x"}),
        (2, {"conv3_x", "conv4_x", "conv5_x"}),
        (5, set()),
    ],
)
def test_freeze_at_counts_as_in_detectron2(plugin: ModuleType, freeze_at: int, expected: set[str]) -> None:
    cfg = config(plugin, NORM="BN")
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    backbone = build(cfg)
    assert learning(backbone) == expected
    frozen = {name.split(".")[1] for name, m in backbone.named_modules() if isinstance(m, FrozenBatchNorm2d)}
    assert frozen == {"stem", "conv2_x", "conv3_x", "conv4_x", "conv5_x"} - expected


def test_norms_are_frozen_unless_asked(plugin: ModuleType) -> None:
    assert not [m for m in build(config(plugin)).modules() if isinstance(m, nn.BatchNorm2d)]


def test_a_pyramid_stands_on_it_and_trains(plugin: ModuleType, images: Tensor) -> None:
    cfg = config(plugin, "build_shortcut_fpn_backbone")
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    backbone = build(cfg)
    maps = backbone(images)
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {
        "p2": (16, 16, 24), "p3": (16, 8, 12), "p4": (16, 4, 6), "p5": (16, 2, 3), "p6": (16, 1, 2)
    }  # fmt: skip
    assert backbone.size_divisibility == 32
    maps["p2"].sum().backward()
    assert backbone.bottom_up.network.get_submodule("conv5_x.1.conv2").weight.grad is not None


def test_networks_of_other_packages_build(plugin: ModuleType, toy: str, images: Tensor) -> None:
    cfg = config(plugin, NAME=toy, OUT_FEATURES=["res2", "res3"])
    backbone = build(cfg)
    assert {name: tuple(m.shape) for name, m in backbone(images).items()} == {
        "res2": (2, 8, 8, 12), "res3": (2, 12, 4, 6)
    }  # fmt: skip
    assert learning(backbone) == {"conv3_x"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"OUT_FEATURES": ["res9"]}, "resnet18 has no feature map 'res9'; it has stem, res2, res3, res4, res5"),
        ({"OUT_FEATURES": []}, "resnet18 is to return no feature map"),
        ({"NORM": "GN"}, "MODEL.SHORTCUT.NORM: 'GN' is not known; use FrozenBN or BN"),
        ({"NAME": "resnt50"}, "did you mean 'resnet50'"),
    ],
)
def test_bad_settings_are_refused(plugin: ModuleType, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(config(plugin, **settings))


def test_only_three_channels_are_taken(plugin: ModuleType) -> None:
    cfg = config(plugin)
    cfg.MODEL.PIXEL_MEAN = [0.0]
    with pytest.raises(InputError, match="1 channels; our networks take 3"):
        build(cfg)
