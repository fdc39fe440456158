"""Frozen and folded batch normalization gives what batch normalization gives."""

from __future__ import annotations

import torch
from torch import nn

from backbones import build_backbone
from backbones.batch_norm import FrozenBatchNorm2d, convolve, fold_batch_norm, freeze_batch_norm


def randomize_norms(module: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and weights far from their defaults, which would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            norm.weight.data.uniform_(0.3, 0.7, generator=generator)
            norm.bias.data.normal_(0, 0.2, generator=generator)
    return module


def test_freezing_and_folding_keep_the_output() -> None:
    for name in ("resnet20", "resnet50", "resnet34_c"):
        network = randomize_norms(build_backbone(name, 10)).eval()
        x = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            expected = network(x)
            frozen = freeze_batch_norm(network)(x)
            folded = fold_batch_norm(network)(x)
        assert torch.allclose(frozen, expected, rtol=1e-4, atol=1e-5)
        assert torch.allclose(folded, expected, rtol=1e-4, atol=1e-5)
        assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]


def test_folding_works_without_freezing_first() -> None:
    network = randomize_norms(build_backbone("resnet18", 10)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)
        assert torch.allclose(fold_batch_norm(network)(x), expected, rtol=1e-4, atol=1e-5)


def test_freezing_twice_changes_nothing_and_training_does_not_thaw() -> None:
    network = freeze_batch_norm(freeze_batch_norm(randomize_norms(build_backbone("resnet20", 10)))).train()
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    network(torch.randn(4, 3, 32, 32) * 9).sum().backward()
    assert before
    for name, value in before.items():
        assert torch.equal(network.state_dict()[name], value)


def test_frozen_names_are_those_of_batch_norm() -> None:
    free = {name for name in build_backbone("resnet18").state_dict() if "num_batches" not in name}
    assert free == set(freeze_batch_norm(build_backbone("resnet18")).state_dict())


def test_gradients_flow_through_the_folded_product() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3, bias=True), randomize_norms(nn.BatchNorm2d(4)).eval()
    frozen = freeze_batch_norm(norm)
    x = torch.randn(2, 3, 8, 8)
    norm(conv(x)).square().sum().backward()
    expected = conv.weight.grad.clone()
    conv.zero_grad()
    convolve(x, conv, frozen).square().sum().backward()
    assert torch.allclose(conv.weight.grad, expected, rtol=1e-3, atol=1e-4)


def test_a_frozen_norm_alone_normalizes() -> None:
    norm = randomize_norms(nn.BatchNorm2d(5)).eval()
    x = torch.randn(2, 5, 3, 3)
    assert torch.allclose(freeze_batch_norm(norm)(x), norm(x), atol=1e-5)
    assert "eps" in repr(freeze_batch_norm(norm))
