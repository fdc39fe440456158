"""What the tests of all hosts share: a network of another package, and a weights file for BGR images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from backbones import build_backbone, load_weights, register_backbone, save_weights
from backbones.contract import Backbone
from backbones.convention import InputConvention
from backbones.variants import _registered
from tests.backbones.test_batch_norm import randomize_norms

BGR = InputConvention(mean=(103.53, 116.28, 123.675), std=(51.0, 102.0, 204.0), channels="BGR")


class Toy(Backbone):
    """Three stages at strides 4, 8 and 16, with names of its own for the modules: only the contract is kept."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        assert num_classes == 0, "hosts bring their own classifier"
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.conv2_x = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.conv3_x = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.out_channels = {"c1": 6, "c2": 8, "c3": 12}
        self.out_strides = {"c1": 4, "c2": 8, "c3": 16}

    def features(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        maps = {"c1": self.patches(images)}
        for name, before in (("c2", "c1"), ("c3", "c2")):
            if until in maps or name not in self.out_channels:
                break
            maps[name] = self.stage(name)(maps[before])
        return maps

    def stage(self, name: str) -> nn.Module:
        return self.patches if name == "c1" else self.get_submodule(f"conv{name[1:]}_x")


@pytest.fixture(params=["registered", "installed"])
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a network of another package, that has called ``register_backbone`` or has an entry point."""
    if request.param == "registered":
        register_backbone("toy", Toy)
    else:
        entry = SimpleNamespace(name="toy", load=lambda: Toy)
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry] if group == "backbones" else [])
    yield "toy"
    _registered.pop("toy", None)


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 of 7 classes whose normalizations are not identities."""
    torch.manual_seed(0)
    network = randomize_norms(build_backbone("resnet18", 7))
    return save_weights(network, tmp_path_factory.mktemp("weights") / "rgb.safetensors", "resnet18")


@pytest.fixture(scope="session")
def bgr_file(weights_file: Path) -> Path:
    """The same network for BGR images."""
    network = build_backbone("resnet18", 7)
    load_weights(network, weights_file)
    return save_weights(network, weights_file.with_name("bgr.safetensors"), "resnet18", convention=BGR)


@pytest.fixture
def images() -> Tensor:
    """[2, 3, 64, 96], normalized."""
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def our_maps(source: Path, images: Tensor, name: str = "resnet18") -> dict[str, Tensor]:
    """What the network gives by itself, in evaluation mode."""
    network = build_backbone(name, num_classes=0).eval()
    load_weights(network, source)
    with torch.no_grad():
        return network.features(images)
