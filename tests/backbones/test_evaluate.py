"""The evaluation command: protocols, ensembles, data, exported files, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones import build_backbone, save_weights
from backbones.classifier import load_classifier
from backbones.convention import InputConvention
from backbones.data.digits import digits_classification
from backbones.data.folders import read_class_names, read_folder
from backbones.errors import InputError
from backbones.evaluate import main
from backbones.evaluation import ranks_of, rates_of
from backbones.framing import ten_crops
from backbones.images import read_image
from backbones.protocols.labelled_data import default_split, read_for
from backbones.protocols.scoring import softmax

CROP_32 = InputConvention((100.0, 110.0, 120.0), (60.0, 60.0, 60.0), size=(32, 32), resize=40)
DIGITS = tuple("0123456789")
COLORS = ("blue", "green", "red")


def write_network(
    path: Path, seed: int, classes: tuple[str, ...], convention: InputConvention = CROP_32, averaged: bool = True
) -> Path:
    torch.manual_seed(seed)
    network = build_backbone("resnet20", len(classes))
    network.fc.weight.data *= 0.01  # scores between 0 and 1, not at their ends
    mean = torch.full((3, 32, 32), 100.0) if averaged else None
    return save_weights(network, path, "resnet20", convention=convention, classes=classes, mean_image=mean)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained networks: of colours, of the same colours in another order, and of digits."""
    folder = tmp_path_factory.mktemp("models")
    write_network(folder / "colors.safetensors", 0, COLORS)
    write_network(folder / "plain.safetensors", 0, COLORS, averaged=False)
    write_network(folder / "mixed.safetensors", 1, ("red", "blue", "green"))
    write_network(folder / "digits.safetensors", 2, DIGITS, InputConvention((0.0,) * 3, (1.0,) * 3, size=(32, 32)))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each colour, two pictures in each."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, color in enumerate(COLORS):
        (folder / color).mkdir()
        for copy in range(2):
            noise = np.random.default_rng((number, copy)).integers(0, 255, (50, 60 + 10 * copy, 3), np.uint8)
            Image.fromarray(noise).save(folder / color / f"{copy}.png")
    return folder


def evaluate(*arguments: object) -> int:
    return main([*map(str, arguments), "--device", "cpu", "--quiet", "--workers", "0"])


def measured(tmp_path: Path, *arguments: object) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The numbers that the command writes, and its line for each picture."""
    output, predictions = tmp_path / "metrics.json", tmp_path / "predictions.jsonl"
    assert evaluate(*arguments, "--output", output, "--predictions", predictions) == 0
    return json.loads(output.read_text()), [json.loads(line) for line in predictions.read_text().splitlines()]


def scores_of(model: Path, folder: Path) -> np.ndarray:
    """Ten-crop scores in the order of the folders' names, written out."""
    classifier = load_classifier(model)
    rows = []
    for path in sorted(folder.rglob("*.png")):
        row = softmax(classifier.logits(np.stack(ten_crops(read_image(path), 32, 40)))).mean(0)
        rows.append([row[classifier.classes.index(color)] for color in COLORS])
    return np.array(rows)


def test_ten_crops_of_a_folder(models: Path, pictures: Path, tmp_path: Path) -> None:
    numbers, lines = measured(tmp_path, "--model", models / "mixed.safetensors", "--dataset", f"folder:{pictures}",
                              "--protocol", "10-crop")  # fmt: skip
    scores, labels = scores_of(models / "mixed.safetensors", pictures), np.repeat(np.arange(3), 2)
    rates = rates_of(scores, labels)
    assert numbers == {
        "models": [str(models / "mixed.safetensors")], "dataset": f"folder:{pictures}", "split": "all",
        "protocol": "10-crop", "images": 6, "top1_error": rates.top1, "top5_error": 0.0,
    }  # fmt: skip
    assert [line["picture"] for line in lines[:3]] == ["blue/0.png", "blue/1.png", "green/0.png"]
    assert [line["class"] for line in lines] == [COLORS[label] for label in labels]
    assert [line["best"] for line in lines] == [COLORS[best] for best in scores.argmax(1)]
    assert [line["rank"] for line in lines] == ranks_of(scores, labels).tolist()
    assert np.allclose([line["score"] for line in lines], scores[np.arange(6), labels], atol=1e-4)


def test_an_ensemble_matches_its_classes_by_name(models: Path, pictures: Path, tmp_path: Path) -> None:
    files = [models / "colors.safetensors", models / "mixed.safetensors"]
    numbers, lines = measured(tmp_path, "--model", *files, "--dataset", f"folder:{pictures}", "--protocol", "10-crop")
    scores = (scores_of(files[0], pictures) + scores_of(files[1], pictures)) / 2
    assert np.allclose([line["best_score"] for line in lines], scores.max(1), atol=1e-4)
    assert numbers["models"] == [str(file) for file in files]


def test_digits_are_scored_as_before(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers, _ = measured(tmp_path, "--model", models / "digits.safetensors", "--dataset", "digits")
    data = digits_classification("val")
    rates = rates_of(load_classifier(models / "digits.safetensors").logits(data.images), data.labels)
    assert numbers["top1_error"] == pytest.approx(rates.top1, abs=0.6)  # one picture of 178
    assert (numbers["split"], numbers["protocol"]) == ("val", "center")
    assert f"{rates.images} images" in capsys.readouterr().out


def test_lower_precision_changes_little(models: Path, pictures: Path, tmp_path: Path) -> None:
    flags = ("--model", models / "colors.safetensors", "--dataset", f"folder:{pictures}", "--protocol", "10-crop")
    exact, rounded = (measured(tmp_path, *flags, "--precision", name)[1] for name in ("fp32", "bf16"))
    difference = [abs(a["score"] - b["score"]) for a, b in zip(exact, rounded, strict=True)]
    assert 0 < max(difference) < 0.1


def test_an_exported_file_takes_every_protocol(
    models: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from deploy.export_options import ExportOptions
    from deploy.exporting import export

    data = ("--dataset", f"folder:{pictures}")
    for name, protocols in (("colors", ("center", "10-crop")), ("plain", ("center", "multi-scale"))):
        source = models / f"{name}.safetensors"
        exported = export(ExportOptions(model=str(source), output=str(tmp_path / f"{name}.onnx"), quiet=True))
        for protocol in protocols:
            _, ours = measured(tmp_path, "--model", source, *data, "--protocol", protocol)
            _, theirs = measured(tmp_path, "--model", exported, *data, "--protocol", protocol)
            assert [line["best"] for line in ours] == [line["best"] for line in theirs]
            assert np.allclose([line["score"] for line in ours], [line["score"] for line in theirs], atol=1e-3)
    capsys.readouterr()
    assert evaluate("--model", tmp_path / "colors.onnx", *data, "--protocol", "multi-scale") == 1
    assert "was exported for one size" in capsys.readouterr().err  # its mean is a picture
    assert evaluate("--model", exported, *data, "--precision", "bf16") == 1
    assert "is exported" in capsys.readouterr().err
    assert evaluate("--model", source, *data, "--engine", "openvino") == 1
    assert "is a trained model, which PyTorch runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give --model"),
        (("--model", "absent.safetensors"), "absent.safetensors: no such file"),
        (("--model", "colors.safetensors", "--dataset", "digits"), "digits: the model has no class '0'"),
        (("--model", "digits.safetensors", "--protocol", "10-crop"), "takes whole pictures of 32x32"),
        (("--model", "digits.safetensors", "--protocol", "multi-scale"), "use --protocol center"),
        (("--model", "digits.safetensors", "colors.safetensors"), "colors.safetensors: models are averaged over"),
        (("--model", "digits.safetensors", "--arch", "a", "b"), "--arch names 2 networks for 1 models"),
        (("--model", "digits.safetensors", "--batch-size", "0"), "--batch-size must be positive"),
        (("--model", "digits.safetensors", "--workers", "-1"), "--workers must not be negative"),
        (("--model", "digits.safetensors", "--dataset", "folder:absent"), "absent: no such folder"),
    ],
)
def test_wrong_input_is_one_line(
    models: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(models)
    assert main([*flags, "--device", "cpu", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_misspelt_protocol_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--model", "m", "--protocol", "10crop"])
    assert stop.value.code == 2
    assert "did you mean '10-crop'" in capsys.readouterr().err


def test_folders_and_files_without_parts_are_scored_whole(pictures: Path, tmp_path: Path) -> None:
    assert default_split(f"folder:{pictures}") == "all"
    (tmp_path / "val").mkdir()
    assert default_split(f"folder:{tmp_path}") == "val"
    (tmp_path / "set.npz").touch()
    assert default_split(f"npz:{tmp_path / 'set.npz'}") == "all"
    assert default_split(f"npz:{tmp_path}") == default_split("imagenet") == "val"


def test_labels_follow_the_model(pictures: Path) -> None:
    data = read_for(("red", "blue", "green"), f"folder:{pictures}")
    assert data.labels.tolist() == [1, 1, 2, 2, 0, 0]
    assert read_for(("0", "1", "2"), f"folder:{pictures}").labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(InputError, match="no class 'blue'"):
        read_for(("0", "1"), f"folder:{pictures}")


def test_ranks_count_from_one() -> None:
    scores = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])
    assert ranks_of(scores, np.array([1, 1])).tolist() == [3, 3]
    assert ranks_of(scores, np.array([0, 2])).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("depth", "arch", "protocol", "top1", "top5"),
    [
        (18, "resnet18", "center", 75.0, 96.7),
        (18, "resnet18", "10-crop", 88.3, 95.0),
        (50, "resnet50_v15", "center", 91.7, 96.7),
    ],
)
def test_published_weights_under_the_command(
    shared_data: Path, tmp_path: Path, depth: int, arch: str, protocol: str, top1: float, top5: float
) -> None:
    numbers, lines = measured(
        tmp_path, "--model", shared_data / f"imagenet_weights/resnet{depth}_imagenet_torchvision_layout.pth.xz",
        "--arch", arch, "--classes", shared_data / "imagenet60/wnids_1000_sorted.txt", "--dataset",
        f"folder:{shared_data / 'imagenet60'}", "--protocol", protocol,
    )  # fmt: skip
    assert 100 - numbers["top1_error"] == pytest.approx(top1, abs=0.1)
    assert 100 - numbers["top5_error"] == pytest.approx(top5, abs=0.1)
    assert sum(line["rank"] == 1 for line in lines) == round(0.6 * top1)


@pytest.mark.parametrize(("depth", "arch"), [(18, "resnet18"), (50, "resnet50_v15")])
def test_published_weights_run_under_multi_scale(shared_data: Path, tmp_path: Path, depth: int, arch: str) -> None:
    few = tmp_path / "few"
    names = read_class_names(shared_data / "imagenet60/wnids_1000_sorted.txt")
    data = read_folder(shared_data / "imagenet60", names)
    for number in (0, 20):
        target = few / str(data.names[number])
        target.parent.mkdir(parents=True)
        target.symlink_to((shared_data / "imagenet60" / str(data.names[number])).resolve())
    numbers, lines = measured(
        tmp_path, "--model", shared_data / f"imagenet_weights/resnet{depth}_imagenet_torchvision_layout.pth.xz",
        "--arch", arch, "--classes", shared_data / "imagenet60/wnids_1000_sorted.txt", "--dataset", f"folder:{few}",
        "--protocol", "multi-scale", "--batch-size", "8",
    )  # fmt: skip
    assert numbers["images"] == 2
    assert [line["rank"] for line in lines] == [1, 1]
