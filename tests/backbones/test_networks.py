"""The networks against the paper's numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backbones import build_backbone, list_backbones, register_backbone
from backbones.complexity import PAPER_MULTIPLY_ADDS, count_multiply_adds, count_parameters, fvcore_multiply_adds
from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.resnet import ResNet
from backbones.variants import VARIANTS, ResNetVariant, _registered

CIFAR = {
    "resnet20": (269_722, 40_551_040), "resnet32": (464_154, 68_862_592), "resnet44": (658_586, 97_174_144),
    "resnet56": (853_018, 125_485_696), "resnet110": (1_727_962, 252_887_680),
    "plain20": (269_722, 40_551_040), "plain56": (853_018, 125_485_696),
}  # fmt: skip
IMAGENET = {
    "plain18": (11_515_688, 1_794_805_760), "resnet18_a": (11_515_688, 1_794_805_760),
    "resnet18": (11_689_512, 1_814_073_344), "plain34": (21_623_848, 3_644_493_824),
    "resnet34_a": (21_623_848, 3_644_493_824), "resnet34": (21_797_672, 3_663_761_408),
    "resnet34_c": (22_716_840, 3_830_747_136), "resnet50": (25_557_032, 3_857_973_248),
    "resnet50_v15": (25_557_032, 4_089_184_256), "resnet101": (44_549_160, 7_570_194_432),
    "resnet101_v15": (44_549_160, 7_801_405_440), "resnet152": (60_192_808, 11_282_415_616),
    "resnet152_v15": (60_192_808, 11_513_626_624), "vgg16": (138_357_544, 15_470_264_320),
    "vgg19": (143_667_240, 19_632_062_464),
}  # fmt: skip


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_networks_have_the_exact_size(name: str) -> None:
    network = build_backbone(name, 10)
    assert (count_parameters(network), count_multiply_adds(network, 32)) == CIFAR[name]


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_networks_have_the_exact_size(name: str) -> None:
    network = build_backbone(name)
    multiply_adds = count_multiply_adds(network, 224)
    assert (count_parameters(network), multiply_adds) == IMAGENET[name]
    if name in PAPER_MULTIPLY_ADDS:
        assert multiply_adds == pytest.approx(PAPER_MULTIPLY_ADDS[name], rel=0.02)


@pytest.mark.slow
def test_resnet1202_has_the_exact_size() -> None:
    network = build_backbone("resnet1202", 10)
    assert (count_parameters(network), count_multiply_adds(network, 32)) == (19_421_274, 2_829_238_912)


def test_option_c_projects_every_shortcut() -> None:
    c18 = ResNet(ResNetVariant("basic", (2, 2, 2, 2), shortcut="C"))
    assert (count_parameters(c18), count_multiply_adds(c18, 224)) == (12_043_816, 1_878_298_624)
    b34, c34 = (count_parameters(build_backbone(name)) for name in ("resnet34", "resnet34_c"))
    assert c34 - b34 == 919_168  # the paper's thirteen projections beyond option B's three


def test_fvcore_counts_normalization_and_pooling_on_top() -> None:
    network = build_backbone("resnet50")
    assert fvcore_multiply_adds(network, 224) == 3_879_247_872


def test_every_name_of_the_table_is_listed() -> None:
    assert set(VARIANTS) <= set(list_backbones())
    assert {"resnet1202", "plain110", "vgg19", "resnet152_v15"} <= set(VARIANTS)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_v15", "plain34", "vgg16", "resnet20", "plain20"])
def test_features_have_the_promised_channels_and_strides(name: str) -> None:
    network = build_backbone(name, num_classes=0).eval()
    with torch.no_grad():
        maps = network.features(torch.zeros(2, 3, 64, 96))
    assert list(maps) == list(network.out_channels) == list(network.out_strides)
    for key, value in maps.items():
        stride = network.out_strides[key]
        assert value.shape == (2, network.out_channels[key], 64 // stride, 96 // stride)


def test_imagenet_strides_are_those_of_the_paper() -> None:
    assert build_backbone("resnet34").out_strides == {"c1": 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}
    assert build_backbone("resnet20").out_strides == {"c1": 1, "c2": 1, "c3": 2, "c4": 4}
    assert build_backbone("vgg16", 0).out_strides["c5"] == 16


def test_features_can_stop_early() -> None:
    network = build_backbone("resnet18", 0)
    network.set_submodule("conv5_x", nn.Identity())
    assert list(network.features(torch.zeros(1, 3, 64, 64), until="c4")) == ["c1", "c2", "c3", "c4"]


def test_stages_are_direct_children_in_calling_order() -> None:
    children = [name for name, _ in build_backbone("resnet50").named_children()]
    assert children[:6] == ["stem", "pool", "conv2_x", "conv3_x", "conv4_x", "conv5_x"]


def test_the_stride_sits_where_the_name_says() -> None:
    for name, strides in (("resnet50", ((2, 2), (1, 1))), ("resnet50_v15", ((1, 1), (2, 2)))):
        first = build_backbone(name).get_submodule("conv3_x.0")
        assert (first.conv1.stride, first.conv2.stride) == strides


def test_truncation_removes_what_nobody_runs() -> None:
    network = build_backbone("resnet18", 0)
    network.truncate("c3")
    assert list(network.out_strides) == ["c1", "c2", "c3"]
    assert list(network.features(torch.zeros(1, 3, 64, 64))) == ["c1", "c2", "c3"]
    assert not list(network.get_submodule("conv5_x").parameters())


def test_without_a_classifier_the_output_is_pooled_features() -> None:
    assert build_backbone("resnet18", 0)(torch.zeros(2, 3, 32, 32)).shape == (2, 512)
    assert build_backbone("vgg16", 0)(torch.zeros(1, 3, 64, 64)).shape == (1, 512 * 49)


def test_initialization_is_he_et_al() -> None:
    torch.manual_seed(0)
    conv = build_backbone("resnet18").get_submodule("conv5_x.1.conv2")
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet50'"):
        build_backbone("resnt50")


def test_other_packages_register_networks() -> None:
    class Tiny(Backbone):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.num_classes = num_classes

    try:
        register_backbone("tiny", Tiny)
        assert "tiny" in list_backbones()
        assert build_backbone("tiny", 7).num_classes == 7
        with pytest.raises(InputError, match="exists"):
            register_backbone("tiny", Tiny)
        with pytest.raises(InputError, match="exists"):
            register_backbone("resnet50", Tiny)
    finally:
        _registered.pop("tiny", None)


def test_installed_packages_offer_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name = "theirs"

        def load(self) -> object:
            return lambda num_classes: ("theirs", num_classes)

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Entry()] if group == "backbones" else [])
    assert "theirs" in list_backbones()
    assert build_backbone("theirs", 3) == ("theirs", 3)
