"""Engines behind one interface: which one runs what, and that they agree."""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest

from backbones.errors import InputError
from backbones.metadata import KEY, read_exported
from backbones.resize_fingerprint import made_picture, resize_fingerprint
from deploy.engine_names import HINTS
from deploy.export_options import ExportOptions
from deploy.exportable import open_exportable
from deploy.onnx_export import trace, write_onnx
from deploy.runtimes import load_runtime
from deploy.runtimes.engines import choose_engine
from deploy.runtimes.exported_models import ClassifierRuntime, DetectorRuntime
from deploy.runtimes.openvino_runtime import OpenVinoSession
from detection.agreement import agreement
from detection.data.digits import compose_scene
from tests.conftest import ROOT
from tests.deploy.stand_in_models import write_classifier
from tests.deploy.test_export import exported, exported_classifier

__all__ = ["exported", "exported_classifier"]


LEARNT = ("Convolution", "FullyConnected")
"""OpenVINO's names of layers with weights."""


@pytest.mark.parametrize(
    ("file", "wanted", "engine"),
    [
        ("m.onnx", None, "openvino"),
        ("m.onnx", "onnxruntime", "onnxruntime"),
        ("m.plan", None, "tensorrt"),
    ],
)
def test_the_first_installed_engine_is_chosen(file: str, wanted: str | None, engine: str) -> None:
    assert choose_engine(Path(file), wanted) == engine


@pytest.mark.parametrize(
    ("file", "wanted", "words"),
    [
        ("m.onnx", "tensorrt", "tensorrt does not run it; openvino or onnxruntime does"),
        ("m.onnx", "openvin", "no engine 'openvin'"),
        ("m.pt", None, "not an exported model"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(file: str, wanted: str | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_engine(Path(file), wanted)


def test_engines_agree(exported: Path) -> None:
    scenes = [compose_scene("val", number).image for number in range(3)]
    scenes.append(scenes[0][:90, :70])
    runtimes = [load_runtime(exported / "model.onnx", 1, engine) for engine in ("openvino", "onnxruntime")]
    assert all(isinstance(runtime, DetectorRuntime) for runtime in runtimes)
    ours, theirs = (runtime.predict(scenes, threshold=0) for runtime in runtimes)
    same = agreement(ours, theirs)
    assert same.counted > 20
    assert same.met == same.counted
    assert [runtime.session.engine.split()[0] for runtime in runtimes] == ["OpenVINO", "ONNX"]


@pytest.mark.parametrize(("flavour", "sampler"), [("portable", "GridSample"), ("ops", "ROIAlign")])
def test_a_bf16_file_samples_regions_at_exact_places(
    exported: Path, tmp_path: Path, flavour: str, sampler: str
) -> None:
    kind = open_exportable(ExportOptions(model=str(exported), flavour=flavour))
    graph = kind.graph("bf16")
    model = trace(graph, kind.example, graph.outputs, kind.shapes, "bf16", kind.argument)
    write_onnx(model, kind.metadata("bf16", flavour), tmp_path / "m.onnx")
    session = OpenVinoSession(tmp_path / "m.onnx")
    layers = session._compiled.get_runtime_model().get_ops()
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        kinds = {_told(layer, "outputPrecisions") for layer in layers if _told(layer, "layerType") in LEARNT}
        assert kinds == {"bf16"}
    samplers = [layer for layer in layers if _told(layer, "layerType") == sampler]
    assert samplers
    waiting, seen = [sampler.input_value(1).get_node() for sampler in samplers], set()
    while waiting:
        layer = waiting.pop()
        if layer.get_friendly_name() in seen or _told(layer, "layerType") in LEARNT:
            continue
        seen.add(layer.get_friendly_name())
        if _told(layer, "layerType") in ("Eltwise", "Concatenation", "Gather", "Convert"):
            assert "bf16" not in _told(layer, "outputPrecisions"), layer
        waiting += [value.get_node() for value in layer.input_values()]
    assert len(seen) > 100


def _told(layer: Any, what: str) -> str:
    """What OpenVINO says of a layer that it compiled."""
    text: str = layer.get_rt_info()[what].astype(str)
    return text


def test_threads_may_share_a_session(exported_classifier: Path) -> None:
    runtime = load_runtime(exported_classifier / "c.onnx", 1)
    assert isinstance(runtime, ClassifierRuntime)
    pictures = [np.full((32, 32, 3), value, np.uint8) for value in range(0, 250, 10)]
    alone = [runtime.predict([picture]) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: runtime.predict([picture]), pictures))
    np.testing.assert_array_equal(np.concatenate(alone), np.concatenate(together))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_streams_share_a_batch(exported: Path, batch: int) -> None:
    whole, streams = (load_runtime(exported / "model.onnx", 2, "openvino", hint) for hint in HINTS)
    scenes = np.stack([compose_scene("val", number).image for number in range(batch)])
    inputs = {"images": scenes, "sizes": np.array([scenes.shape[1:3]] * batch, np.int64)}
    found, wanted = streams.session.run(inputs), whole.session.run(inputs)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-3)
    for wrong in (np.zeros((batch, 3), np.int64), np.zeros((batch + 1, 2), np.int64)):
        with pytest.raises(InputError, match="refuses images"):
            streams.session.run({**inputs, "sizes": wrong})


def test_an_unknown_hint_is_refused(exported: Path) -> None:
    with pytest.raises(InputError, match="no hint 'speed'; there are latency, throughput"):
        load_runtime(exported / "model.onnx", hint="speed")


def test_the_fingerprint_of_resizing_is_one_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(resize_fingerprint()) == 16
    assert made_picture().std() > 50
    changed = resize_fingerprint.__wrapped__
    monkeypatch.setattr("backbones.resize_fingerprint.resize", lambda image, size: np.zeros((*size, 3), np.uint8))
    assert changed() != resize_fingerprint()


def test_a_file_of_another_resizing_is_named(exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = next(entry.value for entry in onnx.load(exported / "model.onnx").metadata_props if entry.key == KEY)
    with caplog.at_level(logging.WARNING, "shortcut"):
        read_exported(text, Path("m.onnx"))
        assert not caplog.messages
        read_exported(text.replace(resize_fingerprint(), "0" * 16), Path("m.onnx"))
    assert "resized differently" in caplog.messages[0]
    with pytest.raises(InputError, match="older"):
        read_exported('{"format": 1}', Path("m.onnx"))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_shapes_that_a_file_does_not_take_are_one_line(exported: Path, engine: str) -> None:
    runtime = load_runtime(exported / "model.onnx", 1, engine)
    with pytest.raises(InputError, match=r"refuses images \[2, 64, 64, 4\], sizes \[2, 2\]"):
        runtime.session.run({"images": np.zeros((2, 64, 64, 4), np.uint8), "sizes": np.full((2, 2), 64)})


def test_a_signal_after_several_sessions_ends_nothing(tmp_path: Path) -> None:
    model = write_classifier(tmp_path / "model.onnx")
    code = (
        "import faulthandler, gc, signal, subprocess\nimport numpy as np\nfrom deploy import load_runtime\n"
        "faulthandler.enable()  # handlers get a signal stack\n"
        "signal.signal(signal.SIGCHLD, lambda *_: None)\n"
        f"first = load_runtime({str(model)!r}, engine='openvino')\n"
        f"second = load_runtime({str(model)!r}, engine='openvino')\n"
        "first.predict([np.zeros((30, 30, 3), np.uint8)])\n"
        "del first; gc.collect()\ndel second; gc.collect()\n"
        "subprocess.run(['true'])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
