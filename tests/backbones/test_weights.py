"""Weights: torchvision's give torchvision's outputs, ours survive a round trip, and bad files are refused."""

from __future__ import annotations

import json
import lzma
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from backbones import build_backbone, load_weights, save_weights
from backbones.batch_norm import freeze_batch_norm
from backbones.classifier import load_classifier
from backbones.convention import IMAGENET, InputConvention
from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from backbones.weights import published
from backbones.weights.file_content import content_of
from backbones.weights.model_file import read_metadata, read_model, write_model
from backbones.weights.published import fetch_published, published_name
from backbones.weights.reading import convert, read_weights
from backbones.weights.torchvision_export import save_torchvision, to_torchvision
from tests.backbones.test_batch_norm import randomize_norms

TORCHVISION = {
    "resnet18": "resnet18", "resnet34": "resnet34", "resnet50_v15": "resnet50", "resnet101_v15": "resnet101",
    "resnet152_v15": "resnet152", "vgg16": "vgg16", "vgg19": "vgg19",
}  # fmt: skip

CLASSIFIER = ModelMetadata(task="classification", architecture={"backbone": "none"}, classes=(), input=IMAGENET)


def torchvision_net(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return randomize_norms(torchvision.models.get_model(TORCHVISION[name], weights=None)).eval()


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_weights_give_torchvision_logits_and_are_exported_again(name: str) -> None:
    theirs = torchvision_net(name)
    ours = build_backbone(name).eval()
    assert load_weights(ours, convert(content_of(theirs.state_dict()), name)).convention.resize == 256
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert (ours(x) - theirs(x)).abs().max() < 1e-4
    exported = to_torchvision(ours)
    assert exported.keys() == theirs.state_dict().keys()
    assert all(torch.equal(exported[name], value) for name, value in theirs.state_dict().items())


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
def test_the_other_stride_placement_is_refused_by_name(name: str) -> None:
    theirs = build_backbone(f"{name}_v15", 2)
    with pytest.raises(InputError, match=f"use {name}_v15"):
        load_weights(build_backbone(name, 2), convert(content_of(to_torchvision(theirs)), "weights.pth"))


def test_our_own_files_remember_the_stride(tmp_path: Path) -> None:
    save_weights(build_backbone("resnet50", 5), tmp_path / "w.safetensors", "resnet50")
    with pytest.raises(InputError, match="use resnet50"):
        load_weights(build_backbone("resnet50_v15", 5), tmp_path / "w.safetensors")


def test_compressed_half_precision_with_wrappers_loads(tmp_path: Path) -> None:
    theirs = torchvision_net("resnet18")
    state = {name: torch.zeros_like(value) for name, value in theirs.state_dict().items()}  # quick to compress
    state["conv1.weight"] = theirs.conv1.weight.detach()
    half = {f"module._orig_mod.{name}": value.half() for name, value in state.items()}
    torch.save(half, tmp_path / "w.pth")
    (tmp_path / "w.pth.xz").write_bytes(lzma.compress((tmp_path / "w.pth").read_bytes(), preset=0))
    ours = build_backbone("resnet18")
    load_weights(ours, tmp_path / "w.pth.xz")
    assert torch.equal(ours.stem.conv.weight, theirs.conv1.weight.half().float())


def test_containers_and_prefixes_nest(tmp_path: Path) -> None:
    theirs = torchvision_net("resnet18").state_dict()
    wrapped = {f"_orig_mod.module._orig_mod.module.{name}": value for name, value in theirs.items()}
    torch.save(
        {"epoch": 3, "model": {"arch": "x", "state_dict": wrapped}, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth"
    )
    ours = build_backbone("resnet18")
    load_weights(ours, tmp_path / "w.pth")
    assert torch.equal(ours.fc.weight, theirs["fc.weight"])


def test_safetensors_of_others_are_read_by_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = torchvision_net("resnet18").state_dict()
    save_file(theirs, tmp_path / "model.safetensors", metadata={"format": "pt"})  # as timm publishes
    ours = build_backbone("resnet18")
    with caplog.at_level("INFO", "shortcut"):
        assert load_weights(ours, tmp_path / "model.safetensors").convention == IMAGENET
    assert "102 of 102 tensors from" in caplog.text
    assert torch.equal(ours.conv5_x[1].bn2.running_var, theirs["layer4.1.bn2.running_var"])


def test_torchvisions_file_is_written_and_loaded_strictly(tmp_path: Path) -> None:
    ours = freeze_batch_norm(randomize_norms(build_backbone("resnet18", 7))).eval()
    path = save_torchvision(ours, tmp_path / "w.pth")
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("name", ["resnet50", "resnet18_a", "resnet34_c", "plain18", "resnet20"])
def test_networks_that_torchvision_lacks_are_not_exported(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name}: torchvision has no network with these layers; it has resnet18"):
        save_torchvision(build_backbone(name, 2), tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())


def test_another_classifier_is_kept_where_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = torchvision_net("resnet18").state_dict()
    torch.save(state, tmp_path / "w.pth")
    torch.save({name: value for name, value in state.items() if not name.startswith("fc.")}, tmp_path / "body.pth")
    for file in ("w.pth", "body.pth"):
        network = build_backbone("resnet18", 7)
        own = network.fc.weight.clone()
        with pytest.raises(InputError, match="classifier=False"):
            load_weights(network, tmp_path / file)
        caplog.clear()
        with caplog.at_level("INFO", "shortcut"):
            load_weights(network, tmp_path / file, classifier=False)
        assert "100 of 100 tensors" in caplog.text
        assert "classifier stays the network's own" in caplog.text
        assert torch.equal(network.fc.weight, own)
        assert torch.equal(network.stem.conv.weight, state["conv1.weight"])
    with pytest.raises(InputError, match="holds no classifier"):
        load_weights(network, tmp_path / "body.pth")
    with pytest.raises(InputError, match="backbone without a classifier"):
        load_classifier(tmp_path / "body.pth", "resnet18")


def test_residual_weights_are_refused_by_the_plain_network_of_the_same_shapes(tmp_path: Path) -> None:
    save_weights(build_backbone("resnet20", 5), tmp_path / "w.safetensors", "resnet20")
    with pytest.raises(InputError, match=r"holds resnet20, and this network is plain20.*use resnet20"):
        load_weights(build_backbone("plain20", 5), tmp_path / "w.safetensors")


def test_a_headless_frozen_network_takes_the_body_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(torchvision_net("resnet18").state_dict(), tmp_path / "w.pth")
    network = freeze_batch_norm(build_backbone("resnet18", 0))
    with caplog.at_level("INFO", "shortcut"):
        load_weights(network, tmp_path / "w.pth")
    assert "100 of 100 tensors" in caplog.text


def test_a_round_trip_keeps_everything(tmp_path: Path) -> None:
    network = randomize_norms(build_backbone("resnet20", 3))
    picture = torch.rand(3, 32, 32) * 255
    convention = InputConvention((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), size=(32, 32))
    path = save_weights(
        network, tmp_path / "w.safetensors", "resnet20", convention=convention, classes=("a", "b", "c"),
        mean_image=picture, recipe="paper", metrics={"top1_error": 8.75},
    )  # fmt: skip
    weights = read_weights(path)
    assert (weights.convention, weights.classes, weights.backbone) == (convention, ("a", "b", "c"), "resnet20")
    assert torch.equal(weights.mean_image, picture)
    classifier = load_classifier(path)
    pixels = torch.randint(0, 256, (2, 3, 32, 32))
    with torch.no_grad():
        expected = network.eval()((pixels - picture) / torch.tensor([4.0, 5.0, 6.0]).reshape(3, 1, 1))
        assert torch.allclose(classifier(pixels), expected, atol=1e-5)
    assert read_metadata(path).more["metrics"] == {"top1_error": 8.75}
    assert read_metadata(path).task == "classification"


def test_missing_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    state = torchvision_net("resnet18").state_dict()
    torch.save({k: v for k, v in state.items() if k != "layer4.1.conv2.weight"}, tmp_path / "short.pth")
    with pytest.raises(InputError, match=r"1 tensors are missing: conv5_x.1.conv2.weight"):
        load_weights(build_backbone("resnet18"), tmp_path / "short.pth")
    torch.save({**state, "layer4.9.conv1.weight": state["conv1.weight"]}, tmp_path / "long.pth")
    with pytest.raises(InputError, match=r"left over: conv5_x.9.conv1.weight"):
        load_weights(build_backbone("resnet18"), tmp_path / "long.pth")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"fc.bias has another shape|fc.weight has another shape"):
        load_weights(build_backbone("resnet18", 7), tmp_path / "w.pth")


def test_files_that_could_run_code_are_not_loaded(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("ran",)

    torch.save({"conv1.weight": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="could run code"):
        read_weights(tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"a": Payload()}))
    with pytest.raises(InputError):
        read_weights(tmp_path / "evil.pkl")


@pytest.mark.parametrize("content", [b"", b"not a file", b"hi\n", b"PK\x03\x04broken"])
def test_damaged_torch_files_are_refused(content: bytes, tmp_path: Path) -> None:
    for name in ("w.pth", "w.pth.xz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_weights(tmp_path / name)


def test_other_contents_are_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds list"):
        read_weights(tmp_path / "list.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "strange.pth")
    with pytest.raises(InputError, match="parameter names"):
        read_weights(tmp_path / "strange.pth")
    with pytest.raises(InputError, match="no such file"):
        read_weights(tmp_path / "absent.pth")


def test_altered_and_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_model(path, {"a": torch.zeros(3)}, CLASSIFIER)
    assert read_model(path)[0]["a"].tolist() == [0, 0, 0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(InputError, match="checksum"):
        read_model(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a complete safetensors"):
        read_model(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="no metadata"):
        read_model(path)
    with pytest.raises(InputError, match="no such file"):
        read_model(tmp_path / "absent.safetensors")
    save_file({"a": torch.zeros(1)}, path, metadata={"shortcut": json.dumps({"format": 99})})
    with pytest.raises(InputError, match="newer"):
        read_metadata(path)


def test_a_checksum_in_the_name_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_model(path, {"a": torch.zeros(3)}, CLASSIFIER)
    prefix = str(read_metadata(path).sha256)[:8]
    right, wrong = tmp_path / f"net-{prefix}.safetensors", tmp_path / "net-00000000.safetensors"
    for copy in (right, wrong):
        copy.write_bytes(path.read_bytes())
    assert load_file(right)["a"].shape == (3,)
    read_metadata(right)
    with pytest.raises(InputError, match="promises checksum"):
        read_metadata(wrong)


def test_a_detector_is_no_classifier(tmp_path: Path) -> None:
    write_model(tmp_path / "d.safetensors", {"a": torch.zeros(1)}, replace(CLASSIFIER, task="detection"))
    with pytest.raises(InputError, match="not a classification network; name a classifier"):
        read_weights(tmp_path / "d.safetensors")


def test_text_and_exported_files_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hi\n")
    with pytest.raises(InputError, match=r"note\.txt: not a torch file"):
        read_weights(tmp_path / "note.txt")
    with pytest.raises(InputError, match="is exported already; name the run folder"):
        read_weights(tmp_path / "model.onnx")


def test_a_torchvision_files_network_is_told_by_its_tensors_or_named(tmp_path: Path) -> None:
    torch.save(torchvision_net("resnet18").state_dict(), tmp_path / "w.pth")
    assert load_classifier(tmp_path / "w.pth").backbone == "resnet18"
    torch.save(torchvision_net("vgg16").state_dict(), tmp_path / "v.pth")
    with pytest.raises(InputError, match="nor do its tensors tell it; give --arch"):
        load_classifier(tmp_path / "v.pth")
    with pytest.raises(InputError, match="does not fit this network"):
        load_classifier(tmp_path / "w.pth", "resnet34")
    assert load_classifier(tmp_path / "w.pth", "resnet18").classes[:2] == ("0", "1")
    with pytest.raises(InputError, match="1000 classes, but 2 names"):
        load_classifier(tmp_path / "w.pth", "resnet18", ("a", "b"))


def test_published_weights_are_fetched_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched = []

    def download(url: str, target: str, prefix: str, progress: bool) -> None:
        fetched.append((url.rsplit("/", 1)[1], prefix))
        torch.save(torchvision_net("resnet18").state_dict(), target)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    load_weights(build_backbone("resnet18"), "torchvision://resnet18")
    fetch_published("resnet18")  # the second time it is there
    assert len(fetched) == 1
    name, prefix = fetched[0]
    assert name == f"resnet18-{prefix}.pth"


def test_unreachable_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(InputError, match=r"resnet50-\w+.pth .*can't be fetched.*--weights FILE"):
        fetch_published("resnet50_v15")
    with pytest.raises(InputError, match="no published weights are known for resnet20"):
        fetch_published("resnet20")
    with pytest.raises(InputError, match="torchvision publishes no such weights"):
        fetch_published("torchvision://resnet50")


def test_the_papers_own_weights_are_fetched_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched = []

    def download(address: str, target: Path) -> Path:
        fetched.append(address.rsplit("/", 1)[1])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"blobs")
        return target

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(published, "download", download)
    assert published_name("resnet101") == "msra://resnet101"
    path = fetch_published("msra://resnet101")
    assert fetch_published("resnet101") == path
    assert fetched == ["R-101.pkl"]
    path.write_bytes(b"blob")
    with pytest.raises(InputError, match="is not what was fetched first"):
        fetch_published("resnet101")
    monkeypatch.setattr(published, "download", refused)
    with pytest.raises(InputError, match=r"R-50.pkl .*can't be fetched; .*--weights FILE"):
        fetch_published("resnet50")


def refused(address: str, target: Path) -> Path:
    raise InputError("no network")
