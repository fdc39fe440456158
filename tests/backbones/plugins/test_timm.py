"""timm's model factory and its feature interface on our networks."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from backbones import build_backbone, load_weights, save_weights
from backbones.errors import InputError
from tests.backbones.plugins.conftest import our_maps

timm = pytest.importorskip("timm", reason="timm is not installed")
from backbones.plugins.timm import register  # noqa: E402


def pretrained(name: str, source: Path, **settings: object) -> nn.Module:
    overlay = {"file": str(source)}
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **settings).eval()


def test_every_network_is_listed() -> None:
    listed = timm.list_models("shortcut_*")
    assert {"shortcut_resnet50", "shortcut_resnet34_a", "shortcut_vgg16", "shortcut_plain20"} <= set(listed)
    assert "shortcut_resnet50_v15" in timm.list_models("shortcut_*", pretrained=True)


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("resnet50", [64, 256, 512, 1024, 2048], [2, 4, 8, 16, 32]),
        ("resnet20", [16, 16, 32, 64], [1, 1, 2, 4]),
        ("vgg16", [64, 128, 256, 512, 512], [1, 2, 4, 8, 16]),
    ],
)
def test_features_only_gives_all_maps(name: str, channels: list[int], strides: list[int], images: Tensor) -> None:
    model = timm.create_model(f"shortcut_{name}", features_only=True).eval()
    assert (model.feature_info.channels(), model.feature_info.reduction()) == (channels, strides)
    with torch.no_grad():
        maps = model(images)
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(channels, strides, strict=True)
    ]  # fmt: skip


def test_out_indices_choose_maps_and_remove_the_rest(weights_file: Path, images: Tensor) -> None:
    expected = list(our_maps(weights_file, images).values())
    for indices, chosen in (((1, 3), (1, 3)), ((-1,), (4,)), ((3, 1), (1, 3)), (2, (3, 4))):
        model = pretrained("shortcut_resnet18", weights_file, features_only=True, out_indices=indices)
        with torch.no_grad():
            maps = model(images)
        assert len(maps) == len(chosen)
        assert all(torch.equal(found, expected[index]) for found, index in zip(maps, chosen, strict=True))
    model = timm.create_model("shortcut_resnet18", features_only=True, out_indices=(1, 2))
    assert model.feature_info.channels() == [64, 128]
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel()
        for name, p in build_backbone("resnet18", 0).named_parameters()
        if name.startswith(("s", "conv2", "conv3"))
    )


def test_features_by_hooks_agree(weights_file: Path, images: Tensor) -> None:
    model = pretrained("shortcut_resnet18", weights_file, features_only=True, feature_cls="hook", out_indices=(0, 2, 4))
    with torch.no_grad():
        maps = model(images)
    expected = our_maps(weights_file, images)
    assert all(torch.equal(m, expected[name]) for m, name in zip(maps, ("c1", "c3", "c5"), strict=True))


def test_a_classifier_gives_our_logits(weights_file: Path, bgr_file: Path, images: Tensor) -> None:
    for source, seen in ((weights_file, images), (bgr_file, images.flip(1))):
        ours = build_backbone("resnet18", 7).eval()
        load_weights(ours, source)
        model = pretrained("shortcut_resnet18", source, num_classes=7)
        with torch.no_grad():
            assert torch.allclose(model(images), ours(seen), atol=1e-5)


def test_a_classifier_trains_a_step(images: Tensor) -> None:
    model = timm.create_model("shortcut_resnet18", num_classes=3, drop_rate=0.1).train()
    nn.functional.cross_entropy(model(images), torch.tensor([0, 2])).backward()
    assert model.network.stem.conv.weight.grad.abs().sum() > 0


def test_another_number_of_classes_leaves_the_classifier_fresh(weights_file: Path, images: Tensor) -> None:
    model = pretrained("shortcut_resnet18", weights_file, num_classes=4)
    assert model(images).shape == (2, 4)
    with torch.no_grad():
        assert torch.equal(model.forward_features(images), our_maps(weights_file, images)["c5"])


def test_the_head_can_be_replaced_and_removed(images: Tensor) -> None:
    model = timm.create_model("shortcut_resnet18", num_classes=3).eval()
    model.reset_classifier(5)
    assert (model.num_classes, model(images).shape, model.get_classifier().out_features) == (5, (2, 5), 5)
    assert model.forward_head(model.forward_features(images), pre_logits=True).shape == (2, 512)
    model.reset_classifier(0)
    assert model(images).shape == (2, 512)
    model.reset_classifier(0, "")
    assert model(images).shape == (2, 512, 2, 3)


def test_intermediates_come_with_the_last_map(images: Tensor) -> None:
    model = timm.create_model("shortcut_resnet18", num_classes=0).eval()
    with torch.no_grad():
        last, maps = model.forward_intermediates(images, indices=[0, 2])
        stopped, _ = model.forward_intermediates(images, indices=[0, 2], stop_early=True)
        alone = model.forward_intermediates(images, indices=2, intermediates_only=True)
    assert [m.shape[1] for m in maps] == [64, 128]
    assert torch.equal(last, model.forward_features(images))
    assert torch.equal(stopped, maps[1])
    assert [m.shape[1] for m in alone] == [256, 512]


def test_the_input_of_the_weights_reaches_timms_transforms(bgr_file: Path) -> None:
    fresh = timm.data.resolve_model_data_config(timm.create_model("shortcut_resnet18"))
    assert fresh["mean"] == pytest.approx((0.485, 0.456, 0.406))
    assert (fresh["input_size"], fresh["crop_pct"]) == ((3, 224, 224), 0.875)
    for settings in ({"num_classes": 7}, {"features_only": True}):
        data = timm.data.resolve_model_data_config(pretrained("shortcut_resnet18", bgr_file, **settings))
        assert data["std"] == pytest.approx((0.8, 0.4, 0.2))


def test_networks_of_other_packages_build(toy: str, images: Tensor) -> None:
    name = register(toy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # timm warns when a name is taken
        assert register(toy) == name == "shortcut_toy"
    model = timm.create_model(name, features_only=True, out_indices=(0, 1))
    assert model.feature_info.reduction() == [4, 8]
    assert [m.shape[1] for m in model(images)] == [6, 8]
    assert timm.create_model(name, num_classes=3)(images).shape == (2, 3)


def test_weights_without_a_linear_classifier_give_features_only(tmp_path: Path) -> None:
    weights = save_weights(build_backbone("resnet18", num_classes=0), tmp_path / "w.safetensors", "resnet18")
    pretrained("shortcut_resnet18", weights, features_only=True)
    with pytest.raises(InputError, match="not one linear layer; use num_classes=0"):
        pretrained("shortcut_resnet18", weights)


def test_vgg_has_timms_head() -> None:
    model = timm.create_model("shortcut_vgg16", num_classes=3)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert model.get_classifier().in_features == 512


def test_what_is_not_offered_is_refused(weights_file: Path) -> None:
    with pytest.raises(InputError, match="in_chans: 1 channels; resnet18 takes 3"):
        timm.create_model("shortcut_resnet18", in_chans=1)
    model = timm.create_model("shortcut_resnet18")
    with pytest.raises(InputError, match="gradient checkpointing"):
        model.set_grad_checkpointing()
    with pytest.raises(InputError, match="NCHW"):
        model.forward_intermediates(torch.zeros(1, 3, 32, 32), output_fmt="NLC")
    with pytest.raises(InputError, match="does not fit"):
        pretrained("shortcut_resnet34", weights_file)
    with pytest.raises(InputError, match="did you mean"):
        register("resnt50")
