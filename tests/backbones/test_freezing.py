"""Stages that learn nothing, in every network of the contract."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from backbones import build_backbone
from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.freezing import first_stages, freeze_stages


class Foreign(Backbone):
    """A network of another package, with names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels, self.out_strides = {"c1": 4, "c2": 4}, {"c1": 2, "c2": 4}
        self.entry = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.rest = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.classifier = nn.Linear(4, 2)

    def stage(self, name: str) -> nn.Module:
        return {"c1": self.entry, "c2": self.rest}[name]

    def features(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        first = self.entry(images)
        return {"c1": first, "c2": self.rest(first)}


@pytest.mark.parametrize(
    ("network", "count", "children"),
    [
        (build_backbone("resnet18", 2), 2, ["stem", "pool", "conv2_x"]),
        (build_backbone("resnet20", 2), 2, ["stem", "pool", "conv2_x"]),
        (build_backbone("vgg16", 0), 2, ["conv1_x", "conv2_x"]),
        (build_backbone("vgg16", 0), 5, ["conv1_x", "conv2_x", "conv3_x", "conv4_x", "conv5_x"]),
        (Foreign(), 1, ["entry"]),
        (Foreign(), 2, ["entry", "rest"]),
        (Foreign(), 0, []),
    ],
)
def test_stages_are_counted_as_the_maps_are(network: Backbone, count: int, children: list[str]) -> None:
    assert list(first_stages(network, count)) == children


def test_frozen_stages_keep_their_statistics_too() -> None:
    network = Foreign()
    freeze_stages(network, 1)
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {
        "rest.0.weight", "rest.0.bias", "rest.1.weight", "rest.1.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip
    before = [norm.running_mean.clone() for norm in (network.entry[1], network.rest[1])]
    network.train().features(torch.randn(2, 3, 8, 8))
    assert torch.equal(network.entry[1].running_mean, before[0])
    assert not torch.equal(network.rest[1].running_mean, before[1])
    with pytest.raises(InputError, match=r"cannot freeze 3 stages: the network has 2 \(c1, c2\)"):
        freeze_stages(network, 3)
