"""segmentation_models_pytorch's decoders on our networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from tests.backbones.plugins.conftest import our_maps

smp = pytest.importorskip("segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed")
from backbones.plugins.smp import register  # noqa: E402


def encoder(name: str, **settings: object) -> nn.Module:
    return smp.encoders.get_encoder(name, weights=None, **settings)


@pytest.mark.parametrize(
    ("name", "depth", "channels"),
    [
        ("resnet18", 5, [3, 64, 64, 128, 256, 512]),
        ("resnet50", 3, [3, 64, 256, 512]),
        ("vgg16", 4, [3, 128, 256, 512, 512]),
        ("resnet20", 2, [3, 32, 64]),
    ],
)
def test_maps_halve_from_the_image_on(name: str, depth: int, channels: list[int], images: Tensor) -> None:
    ours = encoder(f"shortcut-{name}", depth=depth).eval()
    assert ours.out_channels == channels
    with torch.no_grad():
        maps = ours(images)
    assert [tuple(m.shape) for m in maps] == [(2, c, 64 >> i, 96 >> i) for i, c in enumerate(channels)]
    assert maps[0] is images


def test_maps_are_those_of_the_network(weights_file: Path, bgr_file: Path, images: Tensor) -> None:
    try:
        for source, seen in ((weights_file, images), (bgr_file, images.flip(1))):
            ours = encoder(register("resnet18", source)).eval()
            with torch.no_grad():
                maps = ours(images)
            for found, expected in zip(maps[1:], our_maps(source, seen).values(), strict=True):
                assert torch.equal(found, expected)
    finally:
        register("resnet18")


@pytest.mark.parametrize("architecture", ["Unet", "FPN"])
def test_a_decoder_trains_a_step(architecture: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = getattr(smp, architecture)("shortcut-resnet18", encoder_weights=None, classes=4)
    stem = model.encoder.network.stem.conv.weight
    before = stem.detach().clone()
    scores = model(images)
    assert scores.shape == (2, 4, 64, 96)
    nn.functional.cross_entropy(scores, torch.ones(2, 64, 96, dtype=torch.long)).backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert not torch.equal(stem, before)


def test_networks_of_other_packages_may_start_at_any_stride(toy: str, images: Tensor) -> None:
    name = register(toy)
    try:
        assert encoder(name, depth=4).out_channels == [3, 0, 6, 8, 12]
        model = smp.Unet(name, encoder_weights=None, encoder_depth=4, decoder_channels=(32, 16, 8, 8), classes=2)
        model(images).sum().backward()
        assert model.encoder.network.patches.weight.grad is not None
    finally:
        del smp.encoders.encoders[name]


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_repeat_the_pretrained_filters(channels: int, weights_file: Path) -> None:
    try:
        name = register("resnet18", weights_file)
        trained = encoder(name).network.stem.conv.weight
        adapted = encoder(name, in_channels=channels)
        weight = adapted.network.stem.conv.weight
        assert adapted.out_channels[0] == channels
        expected = trained.sum(1, keepdim=True) if channels == 1 else trained[:, [0, 1, 2, 0]] * 3 / 4
        assert torch.allclose(weight, expected)
        assert adapted(torch.zeros(1, channels, 64, 64))[-1].shape == (1, 512, 2, 2)
    finally:
        register("resnet18")


def test_bgr_weights_refuse_other_channels(bgr_file: Path) -> None:
    try:
        with pytest.raises(InputError, match="BGR images cannot take 4 channels"):
            encoder(register("resnet18", bgr_file), in_channels=4)
    finally:
        register("resnet18")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_strides_become_dilation(name: str) -> None:
    maps = encoder(f"shortcut-{name}", output_stride=8).eval()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [64, 32, 16, 8, 8, 8]


@pytest.mark.parametrize(("name", "culprit", "depth"), [("resnet18_a", "PaddedShortcut", 5), ("vgg16", "MaxPool2d", 4)])
def test_strides_outside_of_convolutions_cannot_be_dilated(name: str, culprit: str, depth: int) -> None:
    with pytest.raises(InputError, match=f"{culprit} halves the resolution, so output_stride stays 32"):
        encoder(f"shortcut-{name}", depth=depth, output_stride=8)


def test_preprocessing_is_smps(weights_file: Path) -> None:
    pixels = torch.full((1, 1, 3), 255.0).numpy()
    ours = encoder("shortcut-resnet18").preprocessing
    normalized = smp.encoders.preprocess_input(pixels, **ours)
    assert normalized[0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


def test_a_depth_that_the_network_does_not_reach_is_refused() -> None:
    with pytest.raises(InputError, match="vgg16 has maps at strides 1, 2, 4, 8, 16: an encoder depth of 5 needs one"):
        encoder("shortcut-vgg16")


def test_unknown_networks_are_refused_on_registration() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet50'"):
        register("resnt50")
