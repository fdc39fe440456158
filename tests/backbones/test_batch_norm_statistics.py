"""Statistics computed anew are those of the whole set as a single batch (appendix A)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backbones import build_backbone, save_weights
from backbones.batch_norm import FrozenBatchNorm2d, fold_batch_norm, freeze_batch_norm
from backbones.batch_norm_statistics import Moments, passes_over, recompute_statistics
from backbones.classifier import load_classifier
from backbones.convention import InputConvention
from backbones.data.digits import digits_classification
from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from backbones.prepare import main
from backbones.protocols.sample import FramedSample, draw_numbers
from backbones.resnet import ResNet
from backbones.variants import ResNetVariant
from backbones.weights.model_file import read_metadata, read_model
from detection.building import build_detector
from detection.settings import default_settings

SMALL = ResNetVariant("bottleneck", (1, 2), widths=(4, 8), small_input=True)


def small_network(seed: int = 0) -> ResNet:
    torch.manual_seed(seed)
    network = ResNet(SMALL, 5).double()
    for norm in norms_of(network):
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
    return network


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d | FrozenBatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d)]


def statistics_of(network: nn.Module) -> list[Tensor]:
    return [tensor.clone() for norm in norms_of(network) for tensor in (norm.running_mean, norm.running_var)]


def whole_set_as_one_batch(network: nn.Module, images: Tensor) -> list[Tensor]:
    """What each layer sees in one training pass, in the order of the layers' names."""
    seen: dict[nn.Module, list[Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        seen[norm] = [values.mean(1), values.var(1, correction=0)]

    for norm in norms_of(network):
        norm.register_forward_pre_hook(look)
    network.train()
    with torch.no_grad():
        network(images)
    return [tensor for norm in norms_of(network) for tensor in seen[norm]]


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    drift = torch.linspace(-2, 2, 23, dtype=torch.float64).reshape(-1, 1, 1, 1)  # batches differ in their means
    return torch.randn(23, 3, 16, 16, generator=generator, dtype=torch.float64) + drift


def worst(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("batch", [1, 5, 23])
def test_statistics_are_those_of_the_whole_set_as_one_batch(batch: int, images: Tensor) -> None:
    expected = whole_set_as_one_batch(small_network(), images)
    network = small_network()
    assert recompute_statistics(network, images.split(batch)) == 23
    assert len(expected) == 2 * 12  # stem, nine in blocks, two in projections
    assert worst(statistics_of(network), expected) < 1e-10


def test_batches_of_different_sizes_count_by_their_values() -> None:
    x = [torch.randn(3, 2, 5, 7, dtype=torch.float64), torch.randn(1, 2, 9, 4, dtype=torch.float64) + 3]
    moments = Moments()
    for batch in x:
        moments.add(batch)
    values = torch.cat([batch.transpose(0, 1).flatten(1) for batch in x], 1)
    assert torch.allclose(moments.mean, values.mean(1))
    assert torch.allclose(moments.variance(), values.var(1, correction=0))


def test_single_precision_loses_nothing_to_a_large_mean() -> None:
    x = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 1000
    moments = Moments()
    for batch in x.split(4):
        moments.add(batch)
    assert float(moments.variance()) == pytest.approx(float(x.double().var(correction=0)), rel=1e-4)


def test_at_once_is_exact_for_one_batch_and_near_for_several(images: Tensor) -> None:
    expected = whole_set_as_one_batch(small_network(), images)
    network = small_network()
    assert recompute_statistics(network, [images], exact=False) == 23
    assert worst(statistics_of(network), expected) < 1e-10
    mixed = images[torch.randperm(23, generator=torch.Generator().manual_seed(0))]
    recompute_statistics(network, iter(mixed.split(8)), exact=False)
    found = statistics_of(network)
    assert worst(found[:2], expected[:2]) < 1e-10  # the first layer sees the images themselves
    assert 1e-6 < worst(found, expected) < 2


@pytest.mark.parametrize("exact", [True, False])
def test_nothing_but_the_statistics_changes(exact: bool, images: Tensor) -> None:
    network = small_network().train()
    network.fc.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recompute_statistics(network, images.split(8), exact)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == ("running" not in name), name
    assert network.training and network.conv2_x.training and not network.fc.training
    assert {norm.momentum for norm in norms_of(network)} == {0.1}
    assert not [norm for norm in norms_of(network) if norm._forward_pre_hooks]
    network(images[:2]).sum().backward()  # still trains


def test_dropout_stays_off(images: Tensor) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3)).double().train()
    recompute_statistics(network, [images])
    assert torch.allclose(network[1].running_mean, images.mean((0, 2, 3)))
    assert network[0].training


@pytest.mark.parametrize("exact", [True, False])
def test_frozen_norms_get_the_same_statistics_and_stay_frozen(exact: bool, images: Tensor) -> None:
    free = small_network().float().double()
    frozen = freeze_batch_norm(small_network().float()).double()
    kept = norms_of(frozen)
    for network in (free, frozen):
        recompute_statistics(network, images.split(8), exact)
    assert worst(statistics_of(frozen), statistics_of(free)) < 1e-10
    assert all(a is b for a, b in zip(norms_of(frozen), kept, strict=True))
    assert all(isinstance(norm, FrozenBatchNorm2d) for norm in kept)


def test_each_layers_output_is_then_standardized_over_the_sample(images: Tensor) -> None:
    network = small_network()
    recompute_statistics(network, images.split(8))
    norm = network.conv3_x[1].bn2
    seen: list[Tensor] = []
    norm.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    network.eval()
    with torch.no_grad():
        network(images)
    assert torch.allclose(seen[0].mean((0, 2, 3)), norm.bias, atol=1e-8)
    assert torch.allclose(seen[0].std((0, 2, 3), correction=0), norm.weight, atol=1e-3)  # eps


def test_evaluation_then_equals_training_with_the_sample_as_one_batch(images: Tensor) -> None:
    network = small_network()
    recompute_statistics(network, images.split(4))
    with torch.no_grad():
        assert torch.allclose(network.eval()(images), network.train()(images), atol=1e-10)


def test_what_cannot_be_computed_is_refused(images: Tensor) -> None:
    with pytest.raises(InputError, match="no batch normalization"):
        recompute_statistics(fold_batch_norm(small_network()), [images])
    with pytest.raises(InputError, match="no images"):
        recompute_statistics(small_network(), [])
    with pytest.raises(InputError, match="no images"):
        recompute_statistics(small_network(), [], exact=False)
    with pytest.raises(InputError, match="a list, not an iterator"):
        recompute_statistics(small_network(), iter([images]))
    shared = nn.BatchNorm2d(3)
    with pytest.raises(InputError, match="more than once"):
        recompute_statistics(nn.Sequential(shared, nn.ReLU(), shared), [images.float()])


def test_passes_are_counted() -> None:
    assert passes_over(build_backbone("resnet20")) == 19
    assert passes_over(freeze_batch_norm(build_backbone("resnet20"))) == 19
    assert passes_over(build_backbone("resnet20"), exact=False) == 1


def test_a_sample_is_drawn_once_and_the_same_each_time() -> None:
    assert draw_numbers(5, 0, 0).tolist() == draw_numbers(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    drawn = draw_numbers(1000, 10, 7)
    assert len(set(drawn.tolist())) == 10
    assert drawn.tolist() == draw_numbers(1000, 10, 7).tolist() != draw_numbers(1000, 10, 8).tolist()
    data = digits_classification("val")
    convention = InputConvention((0.0,) * 3, (1.0,) * 3, size=(32, 32))
    for keep in (False, True):
        sample = FramedSample(data, drawn % 100, convention, 4, torch.device("cpu"), keep=keep)
        first, second = list(sample), list(sample)
        assert [len(batch) for batch in first] == [4, 4, 2]
        assert len(sample) == 3
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert np.array_equal(first[0][0].permute(1, 2, 0).numpy(), data.images[drawn[0] % 100])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    convention = InputConvention((100.0, 110.0, 120.0), (1.0, 1.0, 1.0), size=(32, 32))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return save_weights(
        build_backbone("resnet20", 10), path, "resnet20", convention=convention, classes=tuple("0123456789"),
        mean_image=torch.rand(3, 32, 32) * 255, recipe="paper", metrics={"top1_error": 9.0},
    )  # fmt: skip


def prepare(model: Path, output: Path, *flags: str) -> int:
    return main(["statistics", "--model", str(model), "--output", str(output), "--images", "32", "--split", "val",
                 "--device", "cpu", "--quiet", "--workers", "0", *flags])  # fmt: skip


def test_the_command_writes_the_whole_model_with_new_statistics(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new.safetensors"
    assert prepare(model, output, "--batch-size", "8", "--seed", "3") == 0
    assert "19 layers with the statistics of 32 images" in capsys.readouterr().out
    old, new = read_metadata(model), read_metadata(output)
    about = {"dataset": "digits", "split": "val", "images": 32, "exact": True}
    assert new == replace(old, sha256=new.sha256).with_more(statistics=about)
    before, after = read_model(model)[0], read_model(output)[0]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys()
    assert changed == {name for name in before if "running" in name}
    data = digits_classification("val")
    classifier = load_classifier(model).double()
    pixels = torch.from_numpy(data.images[draw_numbers(len(data.labels), 32, 3)]).permute(0, 3, 1, 2)
    expected = whole_set_as_one_batch(classifier.network, classifier.normalize(pixels).double())
    found = statistics_of(load_classifier(output).double())
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-3) for a, b in zip(found, expected, strict=True))


def test_a_detector_takes_the_file(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "new.safetensors"
    assert prepare(model, output, "--no-exact") == 0
    assert read_metadata(output).more["statistics"]["exact"] is False
    detector = build_detector(default_settings("resnet20", ("a", "b")), weights=output)
    norm = detector.head.backbone.stem.bn
    assert torch.equal(norm.running_mean, read_model(output)[0]["network.stem.bn.running_mean"])


def test_a_torch_file_becomes_one_of_ours(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=10)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    flags = ("--arch", "resnet18", "--images", "2", "--no-exact")
    assert prepare(tmp_path / "net.pth", tmp_path / "new.safetensors", *flags) == 0
    metadata = read_metadata(tmp_path / "new.safetensors")
    assert metadata.architecture == {"backbone": "resnet18"}
    assert metadata.input and metadata.input.size == (224, 224)
    assert metadata.more["statistics"]["images"] == 2
    assert ModelMetadata.from_text(metadata.to_text(), "new") == metadata
    found = read_model(tmp_path / "new.safetensors")[0]
    assert torch.equal(found["network.fc.weight"], network.fc.weight)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset", "digist"), "no dataset is named 'digist'"),
        (("--batch-size", "0"), "--batch-size must be positive"),
        (("--split", "tset"), "digits has no split 'tset'"),
    ],
)
def test_wrong_input_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert prepare(model, tmp_path / "new.safetensors", *flags) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new.safetensors").exists()


def test_the_command_needs_a_model_and_a_task(
    run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert main(["statistics", "--quiet"]) == 1
    run = run_script("backbones/prepare.py", "statistic", cwd=tmp_path)
    assert run.returncode == 2
    assert "did you mean 'statistics'" in run.stderr
