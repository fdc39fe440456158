"""Detectors exported with several views of a picture: any engine gives what the trained model gives with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy import load_runtime
from deploy.export_options import ExportOptions
from deploy.exporting import export
from deploy.models import open_tested
from deploy.runtimes.exported_models import ViewsRuntime
from detection.agreement import agreement
from detection.building import save_detector
from detection.data.digits import compose_scene
from detection.improvements.improved_detector import ImprovedDetector
from detection.inference_switches import Switches
from tests.deploy.test_export import taught


@pytest.mark.parametrize(
    ("head", "flavour", "switches"),
    [
        ("c4", "portable", Switches(maxout=(64, 96, 160))),
        ("fpn", "ops", Switches(maxout=(96, 128))),
        ("c4", "portable", Switches(scales=(96, 160), flip=True)),
    ],
)
def test_the_file_gives_what_the_trained_model_gives_with_the_same_switches(
    head: str, flavour: str, switches: Switches, tmp_path: Path
) -> None:
    file = tmp_path / "m.safetensors"
    save_detector(taught(head), file)
    options = ExportOptions(
        model=str(file), flavour=flavour, maxout=switches.maxout, scales=switches.scales, flip=switches.flip, quiet=True
    )
    runtime = load_runtime(export(options))  # which has compared them in every engine
    assert isinstance(runtime, ViewsRuntime)
    trained = open_tested([str(file)], switches, ("detection",), device="cpu", precision="fp32", engine=None)
    assert isinstance(trained, ImprovedDetector)
    rng = np.random.default_rng(3)
    scenes = [compose_scene("val", number).image for number in range(6)]
    pictures = [scene[: rng.integers(60, 129), : rng.integers(60, 129)] for scene in scenes]
    same = agreement(trained.predict(pictures, threshold=0), runtime.predict(pictures, threshold=0))
    assert same.counted >= 30
    assert same.rate >= 0.99
