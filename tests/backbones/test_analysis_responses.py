"""Fig. 7: deviations of layer responses against a forward pass written out by hand, and numpy in double precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backbones.analysis.responses import (
    Responses,
    Spread,
    draw_responses,
    evenly_spaced,
    label_models,
    layer_responses,
)
from backbones.analyze import main as analyze
from backbones.batch_norm import FrozenBatchNorm2d, fold_batch_norm, freeze_batch_norm
from backbones.building import build_backbone
from backbones.contract import Backbone
from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.weights import save_weights


def lively(name: str) -> Backbone:
    """A network whose normalizations have statistics, weights and biases of their own."""
    torch.manual_seed(3)
    network = build_backbone(name, 10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.3, 0.8)
            nn.init.normal_(module.bias, std=0.2)
    return network.eval()


def normalized(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    """Convolution, then ``(x - mean) / sqrt(var + eps) * weight + bias``, channel by channel."""
    out = conv(x)
    for channel in range(out.shape[1]):
        scale = norm.weight[channel] / (norm.running_var[channel] + norm.eps) ** 0.5
        out[:, channel] = (out[:, channel] - norm.running_mean[channel]) * scale + norm.bias[channel]
    return out


@torch.no_grad()
def obvious_responses(network: Backbone, images: Tensor) -> list[np.ndarray]:
    """All responses of a CIFAR network, in order, kept whole."""
    found = [normalized(images, network.stem.conv, network.stem.bn)]
    x = found[0].clamp(min=0)
    for stage in ("conv2_x", "conv3_x", "conv4_x"):
        for block in network.get_submodule(stage):
            first = normalized(x, block.conv1, block.bn1)
            second = normalized(first.clamp(min=0), block.conv2, block.bn2)
            found += [first, second]
            x = (second if block.shortcut is None else second + block.shortcut(x)).clamp(min=0)
    return [response.double().numpy() for response in found]


@pytest.mark.parametrize("name", ["resnet20", "plain20"])
@pytest.mark.parametrize("prepare", [lambda net: net, freeze_batch_norm, fold_batch_norm])
def test_responses_are_those_of_a_forward_pass_by_hand(name: str, prepare: object) -> None:
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = [response.std() for response in obvious_responses(lively(name), images)]
    found = layer_responses(prepare(lively(name)), images.split(2))
    assert len(found) == 19
    assert list(found.values()) == pytest.approx(expected, rel=1e-4)


def test_a_residual_block_is_measured_before_the_addition() -> None:
    network = lively("resnet20")
    block = network.get_submodule("conv3_x.1")
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)
    found = layer_responses(network, [torch.randn(2, 3, 16, 16)])
    assert found["conv3_x.1.conv2"] == 0
    assert found["conv3_x.1.conv1"] > 0


def test_layers_come_in_calling_order_and_only_3x3_ones() -> None:
    cifar = list(layer_responses(lively("resnet20"), [torch.randn(1, 3, 16, 16)]))
    assert cifar[:4] == ["stem.conv", "conv2_x.0.conv1", "conv2_x.0.conv2", "conv2_x.1.conv1"]
    bottlenecks = list(layer_responses(build_backbone("resnet50", 10), [torch.randn(1, 3, 32, 32)]))
    assert len(bottlenecks) == 16
    assert {name.rsplit(".", 1)[1] for name in bottlenecks} == {"conv2"}


def test_measuring_changes_nothing() -> None:
    images = torch.randn(2, 3, 16, 16)
    network = freeze_batch_norm(lively("resnet20")).train()
    before, names = network(images), list(network.state_dict())
    layer_responses(network, [images])
    assert network.training
    assert list(network.state_dict()) == names
    assert isinstance(network.get_submodule("stem.bn"), FrozenBatchNorm2d)
    assert torch.equal(network(images), before)
    assert not any(module._forward_hooks for module in network.modules())


def test_networks_without_batch_normalization_are_refused() -> None:
    with pytest.raises(InputError, match="without batch normalization"):
        layer_responses(build_backbone("vgg16", 0), [torch.zeros(1, 3, 32, 32)])
    with pytest.raises(InputError, match="no pictures"):
        layer_responses(build_backbone("resnet20"), [])


def test_the_spread_is_numpys_also_around_a_large_mean() -> None:
    values = 1e7 + np.random.default_rng(0).normal(size=(7, 11, 13))
    spread = Spread()
    for part in np.array_split(values, 3):
        spread.add(torch.from_numpy(part))
    assert spread.count == values.size
    assert float(spread.mean) == pytest.approx(values.mean(), rel=1e-12)
    assert spread.deviation() == pytest.approx(values.std(), rel=1e-7)
    assert Spread().deviation() == 0


def test_fewer_images_are_spread_over_the_whole_set() -> None:
    assert evenly_spaced(10, 0) == evenly_spaced(10, 99) == list(range(10))
    assert evenly_spaced(10, 5) == [1, 3, 5, 7, 9]
    assert evenly_spaced(7, 3) == [1, 3, 5]


def test_models_are_told_apart() -> None:
    assert label_models(["plain20", "resnet34_a"], ["runs/a", "runs/b"]) == ["plain-20", "ResNet-34 A"]
    twice = label_models(["resnet20", "resnet20", "resnet20"], ["runs/a", "runs/b", "other/b"])
    assert twice == ["ResNet-20 (a)", "ResNet-20 (b)", "ResNet-20 (b) #2"]


def test_the_figure_shows_both_orders_and_plain_networks_dashed() -> None:
    drawn = [
        Responses("plain-20", "plain20", ("a", "b", "c"), (1.0, 3.0, 2.0)),
        Responses("ResNet-20", "resnet20", ("a", "b"), (0.5, 0.7)),
    ]
    in_order, by_size = draw_responses(drawn).axes
    assert list(in_order.lines[0].get_ydata()) == [1.0, 3.0, 2.0]
    assert list(by_size.lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    assert list(by_size.lines[1].get_ydata()) == [0.7, 0.5]
    assert [line.get_linestyle() for line in in_order.lines] == ["--", "-"]
    assert [text.get_text() for text in by_size.get_legend().get_texts()] == ["plain-20", "ResNet-20"]


def test_the_command_writes_a_picture_and_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convention = InputConvention((100.0, 100.0, 100.0), (60.0, 60.0, 60.0), size=(32, 32))
    classes = tuple("0123456789")
    for name in ("plain20", "resnet20"):
        save_weights(lively(name), tmp_path / f"{name}.safetensors", name, convention=convention, classes=classes)
    output = tmp_path / "plots" / "responses.png"
    models = [str(tmp_path / f"{name}.safetensors") for name in ("plain20", "resnet20")]
    arguments = ["--images", "6", "--batch-size", "4", "--device", "cpu", "--quiet", "--output", str(output)]
    assert analyze(["responses", "--model", *models, *arguments]) == 0
    assert "plain-20" in capsys.readouterr().out
    assert output.read_bytes().startswith(b"\x89PNG")
    written = json.loads(output.with_suffix(".json").read_text())
    assert set(written) == {"what", "command", "date", "environment", "results"}
    entry = written["results"]["ResNet-20"]
    assert (entry["arch"], entry["dataset"], entry["split"], entry["images"]) == ("resnet20", "digits", "test", 6)
    assert len(entry["layers"]) == len(entry["deviations"]) == 19


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --model"),
        (["--model", "absent"], "absent"),
        (["--model", "a", "--output", "a.pdf"], "ends in .png"),
        (["--model", "a", "--batch-size", "0"], "--batch-size must be positive"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze(["responses", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
