"""The paper's released networks in Caffe2's and detectron2's files give what those files mean.

The reference is written down here layer by layer, from the files' own names: BGR pixels, a bias on conv1, batch
normalization as scale and bias, Caffe's max pooling, stride in the first 1x1.
"""

from __future__ import annotations

import lzma
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from backbones import build_backbone, load_weights, save_weights
from backbones.batch_norm import freeze_batch_norm
from backbones.classifier import load_classifier
from backbones.convention import IMAGENET, InputConvention
from backbones.errors import InputError
from backbones.normalization import Normalize
from backbones.resnet import StemPool
from backbones.weights import save_torchvision
from backbones.weights.file_content import FileContent, content_of
from backbones.weights.formats.caffe2_layout import CAFFE2
from backbones.weights.model_file import read_metadata
from backbones.weights.reading import read_weights
from detection.building import build_detector, load_detector, save_detector
from detection.settings import default_settings

Blobs = dict[str, NDArray[np.float32]]
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CAFFE = InputConvention((103.530, 116.280, 123.675), (1.0, 1.0, 1.0), "BGR", (224, 224), 256)


def caffe2_blobs(layers: int = 50, classes: int = 10, seed: int = 0) -> Blobs:
    """Seeded weights under the names of ``R-50.pkl``; conv1 has its bias in the 50-layer network only."""
    draw = np.random.default_rng(seed)
    blobs: Blobs = {}

    def convolution(name: str, norm: str, channels: int, inputs: int, size: int) -> None:
        fan = inputs * size * size
        shape = (channels, inputs, size, size)
        blobs[f"{name}_w"] = draw.standard_normal(shape, np.float32) * np.float32((2 / fan) ** 0.5)
        blobs[f"{norm}_s"] = draw.uniform(0.5, 1, channels).astype(np.float32)
        blobs[f"{norm}_b"] = draw.normal(0, 0.2, channels).astype(np.float32)

    convolution("conv1", "res_conv1_bn", 64, 3, 7)
    blobs["conv1_w"] /= 64  # pixels are not divided
    if layers == 50:
        blobs["conv1_b"] = draw.normal(0, 0.5, 64).astype(np.float32)
    inputs = 64
    for stage, blocks in enumerate(DEPTHS[layers], start=2):
        width = 2 ** (stage + 4)
        for block in range(blocks):
            name = f"res{stage}_{block}"
            if block == 0:
                convolution(f"{name}_branch1", f"{name}_branch1_bn", 4 * width, inputs, 1)
            convolution(f"{name}_branch2a", f"{name}_branch2a_bn", width, inputs, 1)
            convolution(f"{name}_branch2b", f"{name}_branch2b_bn", width, width, 3)
            convolution(f"{name}_branch2c", f"{name}_branch2c_bn", 4 * width, width, 1)
            inputs = 4 * width
    blobs["fc1000_w"] = draw.standard_normal((classes, inputs), np.float32) * np.float32(0.05)
    blobs["fc1000_b"] = draw.standard_normal(classes, np.float32)
    return blobs


def caffe_pool(x: Tensor) -> Tensor:
    """Caffe's pooling 3x3, stride 2, no padding: ceil((n - 3) / 2) + 1 windows, the last ones cut at the border."""
    sizes = [-((3 - n) // 2) + 1 for n in x.shape[2:]]
    rows = [
        torch.stack([x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].amax((2, 3)) for j in range(sizes[1])], -1)
        for i in range(sizes[0])
    ]
    return torch.stack(rows, 2)


def reference_logits(blobs: Blobs, pixels: Tensor) -> Tensor:
    """[B, 3, H, W] uint8 RGB -> logits."""
    weight = {name: torch.from_numpy(value) for name, value in blobs.items()}

    def affine(x: Tensor, norm: str) -> Tensor:
        return x * weight[f"{norm}_s"].reshape(-1, 1, 1) + weight[f"{norm}_b"].reshape(-1, 1, 1)

    def layer(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = weight[f"{name}_w"]
        return affine(functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2), f"{name}_bn")

    x = pixels[:, [2, 1, 0]].float() - torch.tensor(CAFFE.mean).reshape(3, 1, 1)
    x = affine(functional.conv2d(x, weight["conv1_w"], weight.get("conv1_b"), 2, 3), "res_conv1_bn").relu()
    x = caffe_pool(x)
    for stage in (2, 3, 4, 5):
        block = 0
        while (name := f"res{stage}_{block}") + "_branch2a_w" in blobs:
            stride = 2 if block == 0 and stage > 2 else 1
            shortcut = layer(x, f"{name}_branch1", stride) if block == 0 else x
            inner = layer(layer(x, f"{name}_branch2a", stride).relu(), f"{name}_branch2b").relu()
            x = (layer(inner, f"{name}_branch2c") + shortcut).relu()
            block += 1
    return x.mean((2, 3)) @ weight["fc1000_w"].T + weight["fc1000_b"]


@pytest.fixture(scope="module")
def msra(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Blobs]:
    """``R-50.pkl`` as Detectron reads it, with blobs and momenta."""
    blobs = caffe2_blobs()
    momenta = {"conv1_w_momentum": np.zeros(3, np.float32), "fc1000_b_momentum": np.zeros(3, np.float32)}
    path = tmp_path_factory.mktemp("msra") / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": {**blobs, **momenta}}, 2))
    return path, blobs


PIXELS = torch.randint(0, 256, (2, 3, 90, 71), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_a_caffe2_pickle_gives_caffes_outputs(msra: tuple[Path, Blobs], caplog: pytest.LogCaptureFixture) -> None:
    path, blobs = msra
    with caplog.at_level("INFO", "shortcut"):
        classifier = load_classifier(path)
    assert "267 of 267 tensors from" in caplog.text
    assert (classifier.backbone, classifier.convention) == ("resnet50", CAFFE)
    expected = reference_logits(blobs, PIXELS)
    assert expected.std() > 0.5
    with torch.no_grad():
        assert (classifier(PIXELS) - expected).abs().max() < 1e-3
        classifier.network.pool.use_caffe_grid(False)
        assert (classifier(PIXELS) - expected).abs().max() > 1e-2  # the pooling does matter


def test_affine_normalization_is_exact() -> None:
    blobs = caffe2_blobs(50)
    weights = CAFFE2.convert(content_of(blobs))
    network = freeze_batch_norm(build_backbone("resnet50", 10))
    network.load_state_dict(weights.tensors)
    scale, shift = network.conv3_x[0].shortcut.bn.scale_and_shift()
    assert np.array_equal(scale.numpy(), blobs["res3_0_branch1_bn_s"])
    assert np.array_equal(shift.numpy(), blobs["res3_0_branch1_bn_b"])


@pytest.mark.parametrize("layers", [50, 101, 152])
def test_the_network_is_told_by_its_blocks_and_the_other_stride_refused(layers: int) -> None:
    own = build_backbone(f"resnet{layers}", 2).state_dict()
    names = {name: torch.empty(0) for name in caffe2_names(layers)}
    converted = CAFFE2.convert(FileContent(names, {}))
    assert converted.backbone == f"resnet{layers}"
    assert converted.stride_on == "1x1"
    missing = {name for name in own if "num_batches" not in name} - converted.tensors.keys()
    assert not missing
    assert converted.tensors.keys() - own.keys() == {"pool.caffe"}


def caffe2_names(layers: int) -> list[str]:
    names = ["conv1_w", "res_conv1_bn_s", "res_conv1_bn_b", "pred_w", "pred_b"]
    for stage, blocks in enumerate(DEPTHS[layers], start=2):
        for block in range(blocks):
            for branch in ("branch2a", "branch2b", "branch2c", *(["branch1"] if block == 0 else [])):
                names += [f"res{stage}_{block}_{branch}_{kind}" for kind in ("w", "bn_s", "bn_b")]
    return names


def test_the_networks_of_other_strides_and_unknown_names_are_refused(msra: tuple[Path, Blobs], tmp_path: Path) -> None:
    weights = read_weights(msra[0])
    with pytest.raises(InputError, match=r"use resnet50$"):
        load_weights(build_backbone("resnet50_v15", 10), weights)
    (tmp_path / "odd.pkl").write_bytes(pickle.dumps({**msra[1], "res2_0_branch2a_gn_s": np.zeros(64)}))
    with pytest.raises(InputError, match="left over: res2_0_branch2a_gn_s"):
        load_weights(build_backbone("resnet50", 10), tmp_path / "odd.pkl")
    (tmp_path / "evil.pkl.xz").write_bytes(lzma.compress(pickle.dumps([1, 2])))
    with pytest.raises(InputError, match="holds list, not a dictionary"):
        read_weights(tmp_path / "evil.pkl.xz")
    (tmp_path / "broken.pkl.xz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"not a complete \.xz file"):
        read_weights(tmp_path / "broken.pkl.xz")
    with pytest.raises(InputError, match="absent"):
        read_weights(tmp_path / "absent.pkl.xz")


@pytest.mark.parametrize(("size", "centred", "caffe"), [(112, 56, 56), (113, 57, 56), (111, 56, 55), (2, 1, 1)])
def test_pooling_on_caffes_grid(size: int, centred: int, caffe: int) -> None:
    x = torch.randn(1, 2, size, size + 2)
    pool = StemPool()
    assert pool(x).shape[2] == centred
    pool.use_caffe_grid(True)
    assert torch.equal(pool(x), caffe_pool(x))
    assert pool(x).shape[2] == caffe


def test_maps_of_caffes_grid_have_the_same_size_where_a_detector_pads() -> None:
    network = build_backbone("resnet18", 0)
    for side in (224, 96, 416):
        x = torch.randn(1, 3, side, 64)
        sizes = []
        for on in (False, True):
            network.pool.use_caffe_grid(on)
            sizes.append([tuple(map_.shape) for map_ in network.features(x).values()])
        assert sizes[0] == sizes[1]


def test_the_grid_travels_through_our_file_and_back(msra: tuple[Path, Blobs], tmp_path: Path) -> None:
    network = build_backbone("resnet50", 10)
    convention = load_weights(network, msra[0]).convention
    path = save_weights(network, tmp_path / "w.safetensors", "resnet50", convention=convention)
    assert read_metadata(path).architecture == {"backbone": "resnet50", "pool": "caffe"}
    assert read_weights(path).caffe_pool
    again = load_classifier(path)
    assert again.convention == CAFFE
    with torch.no_grad():
        assert (again(PIXELS) - reference_logits(msra[1], PIXELS)).abs().max() < 1e-3
    with pytest.raises(InputError, match="torchvision has no network"):
        save_torchvision(network, tmp_path / "w.pth")


def test_other_weights_bring_the_centred_grid_back(tmp_path: Path) -> None:
    plain = save_weights(build_backbone("resnet18", 0), tmp_path / "w.safetensors", "resnet18")
    assert read_metadata(plain).architecture == {"backbone": "resnet18"}
    network = build_backbone("resnet18", 0)
    network.pool.use_caffe_grid(True)
    with pytest.raises(InputError, match="Caffe's grid"):
        save_torchvision(network, tmp_path / "w.pth")
    load_weights(network, plain)
    assert not network.pool.ceil_mode
    weights = read_weights(plain)
    weights.tensors["pool.caffe"] = torch.tensor(True)
    load_weights(network, weights)
    assert (network.pool.ceil_mode, network.pool.padding) == (True, 0)
    small = read_weights(save_weights(build_backbone("resnet20", 0), tmp_path / "s.safetensors", "resnet20"))
    small.tensors["pool.caffe"] = torch.tensor(True)
    with pytest.raises(InputError, match="which this network lacks"):
        load_weights(build_backbone("resnet20", 0), small)


@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_a_detector_keeps_grid_and_convention_through_its_own_file(head: str, tmp_path: Path) -> None:
    network = build_backbone("resnet18", 0)
    network.pool.use_caffe_grid(True)
    source = save_weights(network, tmp_path / "w.safetensors", "resnet18", convention=CAFFE)
    detector = build_detector(default_settings("resnet18", ("a", "b"), head), source)
    assert detector.head.backbone.pool.ceil_mode
    save_detector(detector, tmp_path / "d.safetensors")
    again = load_detector(tmp_path / "d.safetensors")
    assert again.head.backbone.pool.ceil_mode
    assert again.normalize.convention.channels == "BGR"


def detectron2_names(blobs: Blobs) -> dict[str, NDArray[np.float32]]:
    """The same tensors as detectron2 names them, with the statistics that it adds."""
    branches = {"branch1": "shortcut", "branch2a": "conv1", "branch2b": "conv2", "branch2c": "conv3"}
    renamed: dict[str, NDArray[np.float32]] = {}
    for name, value in blobs.items():
        if name in ("conv1_b", "fc1000_w", "fc1000_b"):
            continue
        name = name.replace("res_conv1_bn", "conv1_bn")
        layer, kind = name.rsplit("_bn_", 1) if "_bn_" in name else (name.removesuffix("_w"), "w")
        parts = [branches.get(part, part) for part in layer.split("_")]
        prefix = ".".join(parts) if parts[0] != "conv1" else "stem.conv1"
        if kind == "w":
            renamed[f"{prefix}.weight"] = value
        else:
            renamed[f"{prefix}.norm.{'weight' if kind == 's' else 'bias'}"] = value
            renamed[f"{prefix}.norm.running_mean"] = np.zeros_like(value)
            renamed[f"{prefix}.norm.running_var"] = np.full_like(value, 1 - 1e-5)
    return renamed


@pytest.mark.parametrize("kind", ["backbone", "fpn", "c4", "torchvision"])
def test_detectron2s_files_give_the_backbone(
    kind: str, msra: tuple[Path, Blobs], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named = detectron2_names(msra[1])
    prefix = {"fpn": "backbone.bottom_up.", "c4": "backbone."}.get(kind, "")
    model = {f"{prefix}{name}": value for name, value in named.items()}
    if kind == "c4":
        model = {name.replace("backbone.res5", "roi_heads.res5"): value for name, value in model.items()}
    if prefix:
        model["roi_heads.box_predictor.bbox_pred.weight"] = np.zeros((4, 8), np.float32)
        model["proposal_generator.rpn_head.conv.weight"] = np.zeros((4, 8), np.float32)
    author = "torchvision" if kind == "torchvision" else "Detectron2 Model Zoo"
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": model, "__author__": author}))
    network = build_backbone("resnet50_v15" if kind == "torchvision" else "resnet50", 0)
    with caplog.at_level("INFO", "shortcut"):
        weights = load_weights(network, tmp_path / "model.pkl")
    assert "265 of 265 tensors from" in caplog.text
    assert ("2 tensors of its detector unread" in caplog.text) == bool(prefix)
    assert not weights.caffe_pool  # detectron2's own networks pool as torch does
    assert weights.convention == (IMAGENET if kind == "torchvision" else CAFFE)
    assert np.array_equal(network.conv5_x[2].conv3.weight.detach(), msra[1]["res5_2_branch2c_w"])
    assert np.array_equal(network.conv3_x[0].shortcut.bn.weight.detach(), msra[1]["res3_0_branch1_bn_s"])


def test_detectron2s_normalization_among_the_tensors_decides_the_convention(tmp_path: Path) -> None:
    named = {f"backbone.bottom_up.{name}": value for name, value in detectron2_names(caffe2_blobs()).items()}
    named["pixel_mean"] = np.array(IMAGENET.mean, np.float32).reshape(3, 1, 1)
    named["pixel_std"] = np.array(IMAGENET.std, np.float32).reshape(3, 1, 1)
    torch.save({"model": {name: torch.from_numpy(value) for name, value in named.items()}}, tmp_path / "model.pth")
    weights = read_weights(tmp_path / "model.pth")
    assert (weights.convention, weights.backbone) == (IMAGENET, "resnet50_v15")


def test_foreign_tensors_inside_the_backbone_are_refused_by_name(tmp_path: Path) -> None:
    named = {f"backbone.bottom_up.{name}": value for name, value in detectron2_names(caffe2_blobs()).items()}
    named["backbone.bottom_up.res2.0.conv2_offset.weight"] = np.zeros(3, np.float32)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": named}))
    with pytest.raises(InputError, match=r"left over: conv2_x\.0\.conv2_offset\.weight"):
        load_weights(build_backbone("resnet50", 0), tmp_path / "model.pkl")


def test_detectrons_detectors_give_their_backbone_with_centred_pooling(msra: tuple[Path, Blobs]) -> None:
    blobs = {name: value for name, value in msra[1].items() if not name.startswith(("fc1000", "conv1_b"))}
    extra = {"conv_rpn_fpn2_w": np.zeros(3, np.float32), "bbox_pred_w": np.zeros(3, np.float32)}
    network = CAFFE2.convert(content_of({"blobs": {**blobs, **extra}}))
    assert network.unread == 2
    assert "pool.caffe" not in network.tensors


def test_the_normalization_of_caffes_networks_swaps_channels() -> None:
    pixel = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert torch.allclose(Normalize(CAFFE)(pixel).flatten(), torch.tensor([30 - 103.53, 20 - 116.28, 10 - 123.675]))
