"""What programs get of the page: the same as from the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from deploy import load_runtime
from tests.demo.running_page import RunningPage
from tests.deploy.stand_in_models import OBJECTS


@pytest.fixture(scope="module")
def client(page: RunningPage) -> Client:
    return Client(page.url, verbose=False)


@pytest.fixture
def picture(bright: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "bright.png"
    path.write_bytes(bright)
    return path


def assert_alike(given: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert len(given) == len(wanted)
    for one, other in zip(given, wanted, strict=True):
        assert one["class"] == other["class"] and one.get("mask") == other.get("mask")
        np.testing.assert_allclose([one["score"], *one["box"]], [other["score"], *other["box"]], atol=1e-4)


@pytest.mark.parametrize("model", ["detector", "masks"])
def test_detect_gives_what_the_detector_predicts(
    client: Client, models: dict[str, Path], picture: Path, model: str
) -> None:
    answer = client.predict(handle_file(picture), model, 0.05, api_name="/detect")
    runtime = load_runtime(models[model])
    wanted = runtime.predict(picture, threshold=0.05).to_json()
    assert len(wanted) == 5 and ("mask" in wanted[0]) == (model == "masks")
    assert_alike(answer["detections"], wanted)
    assert (answer["model"], answer["height"], answer["width"], answer["file"]) == (model, 90, 120, "bright.png")


def test_detect_filters_by_score_and_class(client: Client, picture: Path) -> None:
    some = client.predict(handle_file(picture), threshold=0.4, classes="dog, owl", api_name="/detect")
    assert {item["class"] for item in some["detections"]} == {"dog", "owl"}
    with pytest.raises(Exception, match=r"classes: the model knows no &#x27;dug&#x27; .did you mean &#x27;dog"):
        client.predict(handle_file(picture), classes="dug", api_name="/detect")


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ({}, (0.3, 0.9, 0.1)),
        ({"threshold": None, "own": True}, (0.3, 0.9, 0.1)),
        ({"own": False}, 0.5),
        ({"threshold": 0.4}, 0.4),
        ({"threshold": 0.4, "own": True}, 0.4),
        ({"threshold": 0}, 0),
        ({"threshold": 0.05, "classes": "cat"}, (0.05, 2, 2)),
    ],
)
def test_an_explicit_threshold_wins_over_the_models_own(
    client: Client, models: dict[str, Path], picture: Path, given: dict[str, Any], least: float | tuple[float, ...]
) -> None:
    """``threshold`` if it is given, else what the model stores, else 0.5."""
    answer = client.predict(handle_file(picture), model="stored", **given, api_name="/detect")
    wanted = load_runtime(models["stored"]).predict(picture, threshold=0).above(least)
    assert len(wanted) > 0 and (least == 0) == (len(wanted) == OBJECTS)
    assert_alike(answer["detections"], wanted.to_json())


def test_a_threshold_that_is_no_score_is_refused(client: Client, picture: Path) -> None:
    with pytest.raises(Exception, match="scores lie between 0 and 1"):
        client.predict(handle_file(picture), threshold=1.5, api_name="/detect")


def test_classify_gives_the_five_best(client: Client, models: dict[str, Path], picture: Path) -> None:
    answer = client.predict(handle_file(picture), api_name="/classify")
    runtime = load_runtime(models["classifier"])
    probabilities = np.asarray(runtime.predict(picture))
    best = np.argsort(-probabilities)
    assert [item["class"] for item in answer["classes"]] == [runtime.classes[label] for label in best]
    np.testing.assert_allclose([item["score"] for item in answer["classes"]], probabilities[best], atol=1e-4)


def test_segment_gives_shares_and_a_label_image(client: Client, models: dict[str, Path], picture: Path) -> None:
    answer, labels = client.predict(handle_file(picture), api_name="/segment")
    found = load_runtime(models["segmenter"]).predict(picture)
    assert answer["shares"] == found.to_json()
    assert (answer["model"], answer["height"], answer["width"], answer["file"]) == ("segmenter", 90, 120, "bright.png")
    np.testing.assert_array_equal(np.asarray(Image.open(labels)), found.labels)


def test_only_three_endpoints_are_public(client: Client) -> None:
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/classify", "/detect", "/segment"}


def test_no_picture_is_said_so(page: RunningPage) -> None:
    for event, answer in (page.detect(None), page.call("classify", [None, "classifier"])):
        assert event == "error" and "give a picture" in str(answer)
