"""MMEngine's registry, from which MMDetection builds, and our networks in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from tests.backbones.plugins.conftest import our_maps

mmengine = pytest.importorskip("mmengine", reason="mmengine is not installed")
from mmengine.model import Sequential  # noqa: E402
from mmengine.registry import MODELS, Registry  # noqa: E402

from backbones.plugins.mmdet import data_preprocessor  # noqa: E402


def build(**settings: object) -> nn.Module:
    return MODELS.build({"type": "ShortcutBackbone", **settings})


def learning(module: nn.Module) -> set[str]:
    return {name.split(".")[1] for name, value in module.named_parameters() if value.requires_grad}


def test_a_config_imports_and_builds_it(tmp_path: Path, images: Tensor) -> None:
    config = tmp_path / "config.py"
    config.write_text(
        'custom_imports = dict(imports=["backbones.plugins.mmdet"])\n'
        'backbone = dict(type="ShortcutBackbone", name="resnet18", frozen_stages=1)\n'
    )
    host = Registry("model", parent=MODELS, scope="host")  # MMDetection's own registry is such a child
    backbone = host.build(mmengine.Config.fromfile(config).backbone)
    maps = backbone(images)
    assert isinstance(maps, tuple)
    assert [tuple(m.shape) for m in maps] == [(2, 64, 16, 24), (2, 128, 8, 12), (2, 256, 4, 6), (2, 512, 2, 3)]


def test_only_the_wanted_maps_are_made(images: Tensor) -> None:
    backbone = build(name="resnet50", out_indices=(2, 1))
    assert [m.shape[1] for m in backbone(images)] == backbone.out_channels == [512, 1024]
    assert not list(backbone.network.get_submodule("conv5_x").parameters())


def test_pretrained_weights_load_when_the_model_is_initialized(weights_file: Path, images: Tensor) -> None:
    for indices in ((0, 1, 2, 3), (1, 2)):
        pretrained = {"type": "Pretrained", "checkpoint": str(weights_file)}
        backbone = build(name="resnet18", out_indices=indices, init_cfg=pretrained)
        detector = Sequential(backbone)
        detector.init_weights()  # and thereby its children's
        detector.eval()
        expected = our_maps(weights_file, images)
        for index, found in zip(indices, backbone(images), strict=True):
            assert torch.equal(found, expected[f"c{index + 2}"])


def test_weights_of_another_network_are_refused(weights_file: Path) -> None:
    backbone = build(name="resnet34", init_cfg={"type": "Pretrained", "checkpoint": str(weights_file)})
    with pytest.raises(InputError, match="does not fit this network"):
        backbone.init_weights()


def test_pretrained_with_more_settings_is_refused(weights_file: Path) -> None:
    settings = {"type": "Pretrained", "checkpoint": str(weights_file), "prefix": "backbone."}
    with pytest.raises(InputError, match="takes a checkpoint and nothing else"):
        build(name="resnet18", init_cfg=settings).init_weights()


def test_other_initializations_are_mmengines() -> None:
    backbone = build(name="resnet18", init_cfg={"type": "Constant", "layer": "Conv2d", "val": 0.25})
    backbone.init_weights()
    assert (backbone.network.stem.conv.weight == 0.25).all()


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (-1, {"stem", "conv2_x", "conv3_x", "conv4_x", "conv5_x"}),
        (0, {"conv2_x", "conv3_x", "conv4_x", "conv5_x"}),
        (1, {"conv3_x", "conv4_x", "conv5_x"}),
        (4, set()),
    ],
)
def test_frozen_stages_count_as_in_mmdetections_resnet(stages: int, expected: set[str]) -> None:
    assert learning(build(name="resnet18", frozen_stages=stages)) == expected


def test_training_keeps_norms_in_evaluation_and_their_weights_learning(images: Tensor) -> None:
    backbone = build(name="resnet18", frozen_stages=1).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    sum(m.sum() for m in backbone(images)).backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    assert backbone.network.conv3_x[0].bn1.weight.grad is not None
    assert backbone.network.stem.conv.weight.grad is None


def test_without_norm_eval_only_frozen_stages_keep_their_statistics(images: Tensor) -> None:
    backbone = build(name="resnet18", frozen_stages=0, norm_eval=False).eval().train()
    backbone(images)
    assert (backbone.network.stem.bn.running_mean == 0).all()
    assert (backbone.network.conv2_x[0].bn1.running_mean != 0).any()
    assert (backbone.network.conv2_x[0].training, backbone.network.stem.training) == (True, False)


def test_networks_of_other_packages_build(toy: str, images: Tensor) -> None:
    backbone = build(name=toy, out_indices=(0, 1), frozen_stages=0)
    assert [tuple(m.shape) for m in backbone(images)] == [(2, 8, 8, 12), (2, 12, 4, 6)]
    assert learning(backbone) == {"conv2_x", "conv3_x"}


def test_the_preprocessor_turns_mmdetections_bgr_into_what_the_weights_expect(
    weights_file: Path, bgr_file: Path
) -> None:
    rgb, bgr = data_preprocessor(weights_file), data_preprocessor(bgr_file)
    assert (rgb["mean"], rgb["bgr_to_rgb"]) == ([123.675, 116.28, 103.53], True)
    assert (bgr["mean"], bgr["bgr_to_rgb"]) == ([103.53, 116.28, 123.675], False)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="resnet20 has no feature map '3'; it has 0, 1, 2"):
        build(name="resnet20")
    with pytest.raises(InputError, match="cannot freeze 6 stages"):
        build(name="resnet18", frozen_stages=5)
