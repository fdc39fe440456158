"""Models as the page asks them: from files, runs and servers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.building import build_backbone
from backbones.classifier import Classifier
from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.framing import frame_for_classifier
from backbones.normalization import Normalize
from demo.model.finders import LocalClassifier, open_finder, seen_area, start_threshold
from demo.model.finding_models import find_offer, name_all, newest_by_task
from demo.model.servers import read_address
from detection.building import save_detector
from tests.deploy.running_servers import RunningServer
from tests.deploy.stand_in_models import write_classifier, write_detector
from tests.detection.builders import small_detector

PICTURE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)


def test_a_trained_detector_gives_what_it_predicts(tmp_path: Path) -> None:
    detector = small_detector(score_thresholds=(0.2, 0.3, 0.4))
    save_detector(detector, tmp_path / "model.safetensors")
    finder = open_finder(str(tmp_path), "mine")
    found, wanted = finder.find([PICTURE])[0], detector.eval().predict(PICTURE, threshold=0)
    assert found.to_json() == wanted.to_json()
    assert finder.score_thresholds == (0.2, 0.3, 0.4) and start_threshold(finder) == 0.3


def test_a_trained_classifier_tells_where_it_looked() -> None:
    torch.manual_seed(0)
    convention = InputConvention((120.0,) * 3, (60.0,) * 3, size=(32, 32), resize=40)
    network = Classifier("resnet20", build_backbone("resnet20", 3), Normalize(convention), ("a", "b", "c")).eval()
    answer = LocalClassifier("mine", network, "cpu").find([PICTURE])[0]
    logits = network.logits(frame_for_classifier(PICTURE, convention)[None])[0]
    np.testing.assert_allclose(answer.probabilities, np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    assert answer.activation is not None and answer.activation.shape == (8, 8)
    best = logits.argmax()  # the map's mean, and the bias, make the logit
    bias = network.network.fc.bias[best].item()  # type: ignore[union-attr]
    np.testing.assert_allclose(answer.activation.mean() + bias, logits[best], rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "convention", "area"),
    [
        ((90, 120), {}, (0, 0, 90, 120)),
        ((90, 120), {"size": (30, 30)}, (0, 15, 90, 90)),
        ((80, 160), {"size": (20, 20), "resize": 40}, (20, 60, 40, 40)),
        ((10, 20), {"size": (20, 20), "resize": 10}, (-5, 0, 20, 20)),
    ],
)
def test_the_area_that_the_network_saw(size: tuple[int, int], convention: dict, area: tuple[int, ...]) -> None:
    assert seen_area(size, InputConvention((0.0,) * 3, (1.0,) * 3, **convention)) == area


def test_served_models_answer_as_files_do(tmp_path: Path) -> None:
    detector, classifier = write_detector(tmp_path / "d.onnx", masks=True), write_classifier(tmp_path / "c.onnx")
    with RunningServer("builtin", ["--model", detector, "--name", "d"]) as server:
        served, local = open_finder(f"{server.url}/d", "served"), open_finder(str(detector), "local")
        assert served.classes == local.classes
        found, wanted = served.find([PICTURE])[0], local.find([PICTURE])[0]
        assert found.to_json(served.classes) == wanted.to_json(local.classes)
        with pytest.raises(InputError, match="a detector, not a classifier; give it by --detector"):
            open_finder(f"{server.url}/d", "wrong", "classification")
    with pytest.raises(InputError, match="server does not answer"):
        served.find([PICTURE])
    with RunningServer("builtin", ["--model", classifier, "--name", "c"]) as server:
        answer = open_finder(server.url, "served", "classification").find([PICTURE])[0]
        wanted_row = open_finder(str(classifier), "local", "classification").find([PICTURE])[0]
        np.testing.assert_allclose(answer.probabilities, wanted_row.probabilities, rtol=1e-5)
        assert answer.activation is None
        with pytest.raises(InputError, match="a classifier, not a detector; give it by --classifier"):
            open_finder(server.url, "wrong")


@pytest.mark.parametrize("source", ["http://", "http://host:1/a/b", "grpc://host:1/a?b=c", "http://host/a#b"])
def test_addresses_of_another_form_are_refused(source: str) -> None:
    with pytest.raises(InputError, match="expected"):
        read_address(source)


def test_nobody_at_an_address() -> None:
    with pytest.raises(InputError, match="no server answers"):
        open_finder("http://127.0.0.1:9/name", "absent")


def test_the_newest_of_each_kind_is_taken(tmp_path: Path) -> None:
    assert newest_by_task(tmp_path) == {}
    old = write_detector(tmp_path / "old/model.onnx")
    new = write_detector(tmp_path / "quickstart/detector/model.onnx")
    named = write_classifier(tmp_path / "c/model.onnx")
    os.utime(old, (1, 1))
    save_detector(small_detector(), tmp_path / "trained/model.safetensors")
    os.utime(tmp_path / "trained/model.safetensors", (2, 2))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/model.safetensors").write_bytes(b"nothing")
    assert newest_by_task(tmp_path) == {"detection": new, "classification": named}
    new.unlink()
    assert newest_by_task(tmp_path)["detection"] == tmp_path / "trained/model.safetensors"
    write_detector(tmp_path / "trained/model.onnx")
    assert newest_by_task(tmp_path)["detection"] == tmp_path / "trained/model.onnx"
    offer = find_offer({"detection": (), "classification": (), "segmentation": ()}, tmp_path)
    assert [[model.name for model in models] for models in offer.values()] == [["trained"], ["c"], []]
    assert find_offer({"detection": ("x.onnx",), "classification": ()}, tmp_path)["classification"] == ()


def test_without_any_model_the_message_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"make quickstart.*torchvision://maskrcnn_resnet50_fpn"):
        find_offer({"detection": (), "classification": ()}, tmp_path)


def test_names_are_short_and_unlike() -> None:
    sources = ["runs/a/model.onnx", "runs/a", "b/a.onnx", "c/a.onnx", "torchvision://resnet18", "http://h:8/own"]
    names = [model.name for model in name_all(sources)]
    assert names == ["a", "a (trained)", "a (onnx)", "a (onnx) 2", "resnet18", "own at h:8"]
