"""timm's networks: the residual ones have torchvision's names, VGG's linear layers are convolutions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from backbones import build_backbone, load_weights
from backbones.convention import IMAGENET
from backbones.weights.file_content import content_of
from backbones.weights.formats import find_format
from tests.backbones.test_batch_norm import randomize_norms


def test_vggs_convolutional_classifier_is_our_linear_one() -> None:
    generator = torch.Generator().manual_seed(0)
    widths = {"pre_logits.fc1": (16, 8, 7, 7), "pre_logits.fc2": (16, 16, 1, 1), "head.fc": (5, 16)}
    tensors: dict[str, Tensor] = {"features.0.weight": torch.zeros(8, 3, 3, 3), "features.0.bias": torch.zeros(8)}
    for name, shape in widths.items():
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator)
        tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator)
    row = find_format(tensors)
    assert row is not None
    assert row.owner == "timm's"
    network = row.convert(content_of(tensors))
    assert network.convention == IMAGENET
    x = torch.randn(2, 8, 7, 7, generator=generator)
    theirs, ours = x, x.flatten(1)
    for layer in ("pre_logits.fc1", "pre_logits.fc2"):
        theirs = functional.conv2d(theirs, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]).relu()
    theirs = functional.linear(theirs.flatten(1), tensors["head.fc.weight"], tensors["head.fc.bias"])
    for layer in ("fc6", "fc7"):
        ours = functional.linear(
            ours, network.tensors[f"classifier.{layer}.weight"], network.tensors[f"classifier.{layer}.bias"]
        ).relu()
    ours = functional.linear(ours, network.tensors["classifier.fc8.weight"], network.tensors["classifier.fc8.bias"])
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("ours_name", "theirs_name"), [("resnet18", "resnet18"), ("resnet50_v15", "resnet50")])
def test_timms_own_residual_networks_give_their_logits(ours_name: str, theirs_name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    theirs = randomize_norms(timm.create_model(theirs_name, num_classes=6)).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours = build_backbone(ours_name, 6).eval()
    load_weights(ours, tmp_path / "model.safetensors")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_timms_own_vgg_gives_its_logits() -> None:
    timm = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    theirs = timm.create_model("vgg16", num_classes=6).eval()
    state = theirs.state_dict()
    row = find_format(state)
    assert row is not None
    ours = build_backbone("vgg16", 6).eval()
    ours.load_state_dict(row.convert(content_of(state)).tensors)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
