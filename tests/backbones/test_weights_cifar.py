"""The CIFAR-10 networks of pytorch_resnet_cifar10 keep their outputs in ours, whose channels stand in another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from backbones import build_backbone, load_weights
from backbones.classifier import load_classifier
from backbones.errors import InputError
from backbones.weights.formats.cifar_layout import CLASSES, channel_order
from backbones.weights.reading import read_weights
from tests.backbones.test_batch_norm import randomize_norms


class TheirBlock(nn.Module):
    """Option A as they write it: half of the zero channels before, half after."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.new = stride, (width - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new, self.new))
        return (out + shortcut).relu()


class TheirNetwork(nn.Module):
    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for number, width in enumerate((16, 32, 64), start=1):
            strides = [1 if number == 1 else 2] + [1] * (blocks - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(TheirBlock(inputs, width, stride))
                inputs = width
            self.add_module(f"layer{number}", stage)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return self.linear(x.mean((2, 3)))


def their_file(path: Path, blocks: int, classes: int = 10) -> tuple[Path, TheirNetwork]:
    torch.manual_seed(blocks)
    theirs = randomize_norms(TheirNetwork(blocks, classes)).eval()
    state = {f"module.{name}": value for name, value in theirs.state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": state, "best_prec1": 91.73}, path)
    return path, theirs


@pytest.mark.parametrize(("blocks", "name"), [(3, "resnet20"), (5, "resnet32")])
def test_their_weights_give_their_logits(blocks: int, name: str, tmp_path: Path) -> None:
    file, theirs = their_file(tmp_path / "their.th", blocks)
    classifier = load_classifier(file)
    assert (classifier.backbone, classifier.classes) == (name, CLASSES)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = theirs((pixels / 255 - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1))
        assert expected.std() > 0.1
        assert torch.allclose(classifier(pixels), expected, rtol=1e-4, atol=1e-4)


def test_their_convention_comes_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, _ = their_file(tmp_path / "their.th", 3)
    with caplog.at_level("INFO", "shortcut"):
        convention = load_weights(build_backbone("resnet20", 10), file).convention
    assert (convention.channels, convention.size, convention.resize) == ("RGB", (32, 32), None)
    assert np.allclose(np.divide(convention.mean, 255), (0.485, 0.456, 0.406))
    assert np.allclose(np.divide(convention.std, 255), (0.229, 0.224, 0.225))
    assert "97 of 97 tensors from" in caplog.text


def test_channels_are_carried_through_both_transitions() -> None:
    second = channel_order(list(range(16)), 32)
    assert second == [*range(8, 24), *range(8), *range(24, 32)]
    third = channel_order(second, 64)
    assert third[:32] == [16 + channel for channel in second]
    assert third[32:] == [*range(16), *range(48, 64)]


def test_other_class_counts_depths_and_plain_networks(tmp_path: Path) -> None:
    file, _ = their_file(tmp_path / "their.th", 4, classes=7)
    weights = read_weights(file)
    assert (weights.backbone, weights.classes) == (None, ())
    with pytest.raises(InputError, match=r"left over: conv2_x\.3\.bn1\.bias"):
        load_weights(build_backbone("resnet20", 7), weights)
    with pytest.raises(InputError, match="use resnet20"):
        load_weights(build_backbone("plain20", 10), their_file(tmp_path / "other.th", 3)[0])


def test_the_published_resnet_20_scores_what_it_scored(shared_data: Path) -> None:
    folder = shared_data / "cifar10_first4000"
    with Image.open(folder / "cifar10_lossless_first4000_tiles80x50.webp") as sheet:
        tiles = np.asarray(sheet.convert("RGB")).reshape(80, 32, 50, 32, 3)
    images = tiles.transpose(0, 2, 1, 3, 4).reshape(4000, 32, 32, 3)
    labels = np.load(folder / "labels.npy")
    classifier = load_classifier(shared_data / "cifar_weights/resnet20-12fca82f.th")
    right = sum(
        int((classifier.logits(images[start : start + 500]).argmax(1) == labels[start : start + 500]).sum())
        for start in range(0, 4000, 500)
    )
    assert right / 4000 == pytest.approx(0.998, abs=0.0005)
