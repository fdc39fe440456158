"""One page for all tests, with small models; and pictures to send."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="needs gradio")

from tests.demo.running_page import RunningPage
from tests.deploy.stand_in_models import write_classifier, write_detector, write_segmenter


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exported stand-ins: detector, masks, one that stores thresholds, segmenter, classifier."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "detector": write_detector(folder / "detector.onnx"),
        "masks": write_detector(folder / "masks.onnx", masks=True),
        "stored": write_detector(folder / "stored.onnx", score_thresholds=(0.3, 0.9, 0.1)),
        "segmenter": write_segmenter(folder / "segmenter.onnx"),
        "classifier": write_classifier(folder / "classifier.onnx", activation_map=True),
    }


@pytest.fixture(scope="session")
def page(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    """A page that all tests of a worker share."""
    detectors = [models[name] for name in ("detector", "masks", "stored")]
    arguments = ["--detector", *detectors, "--classifier", models["classifier"], "--segmenter", models["segmenter"]]
    with RunningPage([*arguments, "--max-upload", 2, "--max-pixels", 4], tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture(scope="session")
def bright() -> bytes:
    """A picture of 120 x 90 in which the stand-ins find six objects."""
    pixels = np.full((90, 120, 3), 250, np.uint8)
    pixels[20:60, 30:80] = (255, 200, 90)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
