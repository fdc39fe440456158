"""What may be set at test time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.errors import InputError
from deploy.models import open_tested
from detection.building import save_detector
from detection.detector import Detector
from detection.improvements.improved_detector import ImprovedDetector
from detection.inference_switches import Switches, with_switches
from detection.settings import InputSettings, OutputSettings, default_settings
from tests.detection.builders import small_detector

SETTINGS = default_settings("resnet50", ("a", "b"))

DETECTORS = ("detection",)
ON_CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32", "engine": None}


def test_nothing_given_changes_nothing() -> None:
    assert with_switches(SETTINGS, Switches()) == SETTINGS
    assert Switches().given_switches() == []


def test_what_is_given_replaces_fields() -> None:
    switches = Switches(refine=True, vote=0.5, soft_nms=0.4, nms=0.3, max_detections=50, test_shorter=400)
    expected = OutputSettings(nms_threshold=0.3, max_detections=50, refine=True, vote=0.5, soft=0.4)
    assert with_switches(SETTINGS, switches) == replace(SETTINGS, output=expected, input=InputSettings(400, 666))
    assert switches.given_switches() == [
        "--refine",
        "--vote",
        "--soft-nms",
        "--nms",
        "--max-detections",
        "--test-shorter",
    ]


def test_zero_and_no_switch_off() -> None:
    on = replace(SETTINGS, output=OutputSettings(refine=True, vote=0.5, soft=0.5))
    assert with_switches(on, Switches(refine=False, vote=0.0, soft_nms=0.0)) == SETTINGS


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        (Switches(vote=1.5), "--vote 1.5: must lie in 0 to 1"),
        (Switches(nms=float("nan")), "--nms nan"),
        (Switches(soft_nms=-1), "--soft-nms -1"),
        (Switches(max_detections=0), "--max-detections 0: must lie in 1 to 10000"),
        (Switches(test_shorter=5), "--test-shorter 5"),
        (Switches(maxout=(200, 7)), "--maxout 7: must lie in 32 to 10000"),
    ],
)
def test_values_out_of_range_are_refused(switches: Switches, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_switches(SETTINGS, switches)


def test_several_models_or_views_are_an_improved_detector(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    for file in files:
        save_detector(small_detector(), Path(file))
    picture = np.zeros((128, 128, 3), np.uint8)
    for models, switches in (
        (files, Switches()),
        (files[:1], Switches(flip=True)),
        (files, Switches(maxout=(64, 128))),
    ):
        detector = open_tested(models, switches, DETECTORS, **ON_CPU)
        assert isinstance(detector, ImprovedDetector)
        assert len(detector.detectors) == len(models)
        assert len(detector.predict([picture])) == 1
    plain = open_tested(files[:1], Switches(refine=True), DETECTORS, **ON_CPU)
    assert isinstance(plain, Detector)
    assert plain.settings.output.refine


def test_an_exported_model_takes_no_switch() -> None:
    with pytest.raises(InputError, match=r"m.onnx: an exported model is fixed, so it cannot take --flip, an ensemble"):
        open_tested(["m.onnx", "b"], Switches(flip=True), DETECTORS, **ON_CPU)
