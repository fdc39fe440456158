"""The segmenter: torchvision's outputs from torchvision's weights, losses, prediction at any size, files, export."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import segmentation

from backbones import build_backbone, save_weights
from backbones.batch_norm import fold_batch_norm
from backbones.convention import InputConvention
from backbones.errors import InputError
from detection.building import load_detector
from detection.segmentation.building import build_segmenter, load_segmenter, save_segmenter
from detection.segmentation.fcn import AUXILIARY_WEIGHT, enlarge, pixel_loss
from detection.segmentation.label_images import VOC_LABELS
from detection.segmentation.settings import IGNORED, SegmenterSettings
from detection.targets import SegmentationTargets
from detection.training.tasks import Losses
from tests.detection.segmentation.builders import CLASSES, scene, small_segmenter


def batch(count: int = 2) -> tuple[torch.Tensor, SegmentationTargets]:
    pictures, labels = zip(*(scene(number) for number in range(count)), strict=True)
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return images, SegmentationTargets(torch.from_numpy(np.stack(labels)), torch.tensor([[64, 64]] * count))


@pytest.mark.parametrize("depth", [50, 101])
def test_torchvisions_weights_give_torchvisions_outputs(
    depth: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(depth)
    build = getattr(segmentation, f"fcn_resnet{depth}")
    theirs = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True).eval()
    for norm in (module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.2, 0.5)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    with caplog.at_level("INFO", "shortcut"):
        ours = load_segmenter(tmp_path / "theirs.pth")
    assert "left out: 8 tensors of the auxiliary head" in caplog.text
    assert (ours.settings.backbone, ours.classes) == (f"resnet{depth}_v15", VOC_LABELS)
    pixels = torch.randint(0, 256, (1, 3, 65, 90), dtype=torch.uint8)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
    sizes = torch.tensor([[65, 90]])
    with torch.no_grad():
        expected = theirs((pixels / 255 - mean) / std)["out"]
        assert expected.std() > 1e-2
        assert torch.allclose(ours.logits(pixels, sizes), expected, atol=1e-4)
        found = ours.segment(pixels, sizes)
    scores, labels = expected.softmax(1).max(1)
    assert torch.equal(found.labels, labels.byte())
    assert torch.allclose(found.scores, scores, atol=1e-4)


def test_other_files_are_no_segmenters(tmp_path: Path) -> None:
    deeplab = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=3)
    torch.save(deeplab.state_dict(), tmp_path / "d.pth")
    with pytest.raises(InputError, match=r"d\.pth: neither a segmenter of this project nor torchvision's fcn_resnet50"):
        load_segmenter(tmp_path / "d.pth")
    save_weights(build_backbone("resnet20", 10), tmp_path / "c.safetensors", "resnet20")
    with pytest.raises(InputError, match="holds a classifier, not a segmenter"):
        load_segmenter(tmp_path / "c.safetensors")
    save_segmenter(small_segmenter(), tmp_path / "s.safetensors")
    with pytest.raises(InputError, match="holds a segmenter, not a detector"):
        load_detector(tmp_path / "s.safetensors")


def test_a_segmenter_survives_a_round_trip(tmp_path: Path) -> None:
    segmenter = small_segmenter("resnet18", output_stride=16, auxiliary=True, frozen_norm=True).eval()
    save_segmenter(segmenter, tmp_path / "s.safetensors", metrics={"mIoU": 0.5})
    again = load_segmenter(tmp_path / "s.safetensors")
    assert again.settings == segmenter.settings
    assert again.backbone.out_strides["c5"] == 16
    for a, b in zip(segmenter.predict([scene(0)[0]]), again.predict([scene(0)[0]]), strict=True):
        assert torch.equal(a.scores, b.scores)
        assert torch.equal(a.labels, b.labels)


def test_settings_survive_json() -> None:
    settings = SegmenterSettings("resnet50", CLASSES, auxiliary=True)
    assert SegmenterSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_pretrained_weights_bring_their_convention(tmp_path: Path) -> None:
    network = build_backbone("resnet20", 10)
    convention = InputConvention((10.0, 20.0, 30.0), (2.0, 3.0, 4.0), size=(32, 32))
    save_weights(network, tmp_path / "c.safetensors", "resnet20", convention=convention)
    segmenter = build_segmenter(small_segmenter().settings, tmp_path / "c.safetensors")
    assert segmenter.normalize.mean.flatten().tolist() == [10, 20, 30]
    assert segmenter.settings.convention.size is None
    assert torch.equal(segmenter.backbone.stem.conv.weight, network.stem.conv.weight)


def test_the_loss_is_the_mean_over_labelled_pixels() -> None:
    logits = torch.randn(2, 3, 8, 8)
    labels = torch.randint(0, 3, (2, 32, 32), dtype=torch.uint8)
    labels[0, :20] = IGNORED
    full = functional.interpolate(logits, scale_factor=4, mode="bilinear")
    log = full.log_softmax(1)
    places = [(b, y, x) for b in range(2) for y in range(32) for x in range(32) if labels[b, y, x] != IGNORED]
    expected = -torch.stack([log[b, int(labels[b, y, x]), y, x] for b, y, x in places]).mean()
    assert pixel_loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(enlarge(logits, labels), full)


def test_the_mean_is_that_of_the_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(2, 3, 8, 8)
    labels = torch.randint(0, 3, (2, 32, 32), dtype=torch.uint8)
    labels[0, :20] = IGNORED
    whole = pixel_loss(logits, labels)
    mean = (labels != IGNORED).sum().float() / 2
    monkeypatch.setattr("detection.segmentation.fcn.mean_over_processes", lambda count: mean)
    halves = [pixel_loss(logits[rank : rank + 1], labels[rank : rank + 1]) for rank in range(2)]
    assert (sum(halves) / 2).item() == pytest.approx(whole.item(), rel=1e-5)


def test_nothing_labelled_is_no_loss_and_no_gradient() -> None:
    segmenter = small_segmenter(auxiliary=True).train()
    images, targets = batch()
    losses = segmenter.losses(images, SegmentationTargets(torch.full_like(targets.labels, IGNORED), targets.sizes))
    assert {name: loss.item() for name, loss in losses.items()} == {"pixels": 0, "auxiliary": 0}
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in segmenter.parameters())


def test_what_lies_in_the_padding_changes_nothing() -> None:
    segmenter = small_segmenter().eval()
    images, targets = batch(1)
    sizes = torch.tensor([[40, 50]])
    other, labels = images.clone(), targets.labels.clone()
    other[:, :, 40:], other[:, :, :, 50:] = 255, 7
    labels[:, 40:], labels[:, :, 50:] = IGNORED, IGNORED
    a, b = (segmenter.losses(pixels, SegmentationTargets(labels, sizes))["pixels"] for pixels in (images, other))
    assert torch.equal(a, b)


def test_the_auxiliary_head_is_weighted_and_never_predicts() -> None:
    with_second, without = small_segmenter(auxiliary=True).eval(), small_segmenter().eval()
    without.load_state_dict({k: v for k, v in with_second.state_dict().items() if not k.startswith("auxiliary.")})
    images, targets = batch()
    losses = with_second.losses(images, targets)
    maps = with_second.backbone.features(with_second.normalize(images, targets.sizes))
    own = pixel_loss(with_second.auxiliary(maps["c3"]), targets.labels)
    assert losses["auxiliary"].item() == pytest.approx(AUXILIARY_WEIGHT * own.item())
    assert torch.equal(losses["pixels"], without.losses(images, targets)["pixels"])
    assert torch.equal(with_second(images, targets.sizes).scores, without(images, targets.sizes).scores)


@pytest.mark.parametrize(("backbone", "output_stride"), [("resnet18", 8), ("vgg16", 16), ("resnet20", 8)])
def test_pictures_of_any_size_come_back_at_their_own(backbone: str, output_stride: int) -> None:
    segmenter = small_segmenter(backbone, output_stride=output_stride)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, size, np.uint8) for size in ((70, 40, 3), (1, 1, 3), (33, 90), (300, 20, 3))]
    for picture, found in zip(pictures, segmenter.predict(pictures, batch_size=3), strict=True):
        assert found.labels.shape == found.scores.shape == picture.shape[:2]
        assert (found.labels.dtype, found.scores.dtype) == (torch.uint8, torch.float32)
        assert found.labels.max() < 3
        assert 1 / 3 <= found.scores.min() <= found.scores.max() <= 1
    assert segmenter.training
    assert segmenter.predict([]) == []


def test_a_picture_never_depends_on_its_neighbours() -> None:
    segmenter = small_segmenter()
    pictures = [scene(number, size)[0] for number, size in enumerate([(64, 64), (64, 60), (64, 64)])]
    together, alone = segmenter.predict(pictures), [segmenter.predict([picture])[0] for picture in pictures]
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a.scores, b.scores, atol=1e-5)


def test_one_picture_is_soon_learned_by_heart() -> None:
    segmenter = small_segmenter(dropout=0.0).train()
    images, targets = batch(1)
    optimizer = torch.optim.SGD(segmenter.parameters(), lr=0.2, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        segmenter.losses(images, targets)["pixels"].backward()
        optimizer.step()
    found = segmenter.predict([scene(0)[0]])[0]
    assert (found.labels == targets.labels[0]).float().mean() > 0.97


def test_the_step_is_one_graph() -> None:
    losses_of = Losses(small_segmenter(auxiliary=True, dropout=0.0)).train()
    images, targets = batch()
    traced = torch.compile(copy.deepcopy(losses_of), fullgraph=True, backend="eager")  # the compiler itself is torch's
    for name, loss in losses_of(images, targets).items():
        assert traced(images, targets)[name].item() == pytest.approx(loss.item(), rel=1e-4)


def test_it_exports_as_one_graph_of_any_batch_and_size_without_data_dependent_shapes() -> None:
    segmenter = copy.deepcopy(small_segmenter("resnet18", output_stride=8)).eval().requires_grad_(False)
    fold_batch_norm(segmenter)
    assert not [module for module in segmenter.modules() if isinstance(module, nn.BatchNorm2d)]
    images, sizes = torch.zeros(2, 3, 64, 96, dtype=torch.uint8), torch.tensor([[64, 96], [50, 70]])
    free = torch.export.Dim
    shapes = {
        "images": {0: free("b", min=1, max=16), 2: 32 * free("h", min=1, max=64), 3: 32 * free("w", min=1, max=64)},
        "sizes": {0: free("b", min=1, max=16)},
    }

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.segmenter = segmenter

        def forward(self, images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.segmenter(images, sizes)
            return found.labels, found.scores

    program = torch.export.export(Graph(), (images, sizes), dynamic_shapes=shapes, strict=False)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [
        name
        for name in names
        if any(word in name for word in ("nonzero", "aten.item", "local_scalar", "cond", "while"))
    ]
    pixels, sizes = torch.randint(0, 256, (3, 3, 32, 128), dtype=torch.uint8), torch.tensor([[32, 128]] * 3)
    labels, scores = program.module()(pixels, sizes)
    expected = segmenter(pixels, sizes)
    assert torch.allclose(scores, expected.scores, atol=1e-5)
    assert (labels == expected.labels).float().mean() > 0.999
