"""The benchmark's arithmetic, and what it makes of models; never how fast they are."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones import build_backbone, save_weights
from backbones.complexity import count_multiply_adds
from backbones.convention import InputConvention
from backbones.errors import InputError
from deploy.benchmarking.memory import measure_memory
from deploy.benchmarking.options import BenchmarkOptions
from deploy.benchmarking.running import benchmark
from deploy.benchmarking.showing import table
from deploy.benchmarking.subjects import make_images, pad, pairs
from deploy.benchmarking.timing import Spread, summarize, take_turns
from deploy.benchmarking.work import of_graph
from deploy.export_options import ExportOptions
from deploy.exporting import export
from tests.backbones.test_batch_norm import randomize_norms


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained one, and its exported file beside it."""
    path = tmp_path_factory.mktemp("classifier") / "c.safetensors"
    convention = InputConvention((90.0, 91.0, 92.0), (40.0, 41.0, 42.0), size=(32, 32))
    network = randomize_norms(build_backbone("resnet20", 10))
    save_weights(network, path, "resnet20", convention=convention, classes=tuple("0123456789"))
    export(ExportOptions(model=str(path), output=str(path.with_suffix(".onnx")), quiet=True))
    return path


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="give --model"):
        BenchmarkOptions()
    with pytest.raises(InputError, match="--size 224: give a height and a width"):
        BenchmarkOptions(model=("m.onnx",), size=(224,))
    with pytest.raises(InputError, match="--batch: each must be at least 1"):
        BenchmarkOptions(model=("m.onnx",), batch=(8, 0))


def test_each_model_runs_in_the_engines_that_can() -> None:
    assert pairs(["a.onnx", "run"], ["onnxruntime", "torch", "openvino"]) == [
        ("a.onnx", "onnxruntime"), ("a.onnx", "openvino"), ("run", "torch"),
    ]  # fmt: skip
    assert pairs(["run"], []) == [("run", "torch")]
    with pytest.raises(InputError, match="run: a trained model runs in torch; add it to --engine, or export it"):
        pairs(["run"], ["openvino"])
    with pytest.raises(InputError, match="--engine torch: runs none of the models"):
        pairs(["a.onnx"], ["openvino", "torch"])


def test_calls_take_turns_and_another_begins_each_round() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    turns = take_turns(calls, rounds=3, seconds=1e-9)
    assert "".join(order) == "aabbcc" + "abc" + "bca" + "cab"  # two of each to warm up
    assert {name: [len(turn) for turn in each] for name, each in turns.items()} == {name: [1, 1, 1] for name in "abc"}


def test_a_summary_is_what_it_says() -> None:
    turns = [[0.01] * 98 + [0.03, 0.05], [0.02] * 100]
    base = [[0.1], [0.08]]
    peak = [[0.5, 0.4], [0.8]]
    timing = summarize(turns, 2, base, 4, work=1e6, peak=peak, peak_work=8e8)
    every = [second * 1000 for turn in turns for second in turn]
    assert (timing.p50, timing.p95, timing.p99) == pytest.approx(tuple(np.percentile(every, (50, 95, 99))))
    rates = [2 * 100 / sum(turn) for turn in turns]
    assert timing.images_per_second == pytest.approx(400 / sum(map(sum, turns)))
    ratios = sorted((rates[0] / 40, rates[1] / 50))
    assert timing.ratio == Spread(pytest.approx(np.mean(ratios)), pytest.approx(ratios[0]), pytest.approx(ratios[1]))
    shares = (rates[0] * 1e6 / 2e9, rates[1] * 1e6 / 1e9)  # of 8e8 in 0.4 and in 0.8 seconds
    assert timing.share is not None
    assert (timing.share.min, timing.share.max) == pytest.approx(tuple(sorted(shares)))
    assert summarize(turns, 2, base, 4).share is None


def test_images_are_padded_below_and_to_the_right() -> None:
    images = make_images(2, (30, 33), None)
    padded = pad(images, 32)
    assert padded.shape == (2, 32, 64, 3)
    assert (padded[:, :30, :33] == images).all()
    assert not padded[:, 30:].any()
    assert not padded[:, :, 33:].any()
    assert (images == make_images(2, (30, 33), None)).all()
    with pytest.raises(InputError, match="no pictures there"):
        make_images(2, (30, 33), str(Path(__file__).parent / "absent"))


def test_an_exported_graph_has_as_many_multiply_adds_as_the_module(classifier: Path) -> None:
    assert of_graph(classifier.with_suffix(".onnx"), (32, 32)) == count_multiply_adds(
        build_backbone("resnet20", 10), 32
    )


def test_layers_count_and_products_of_activations_do_not(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weights = {
        "grouped": np.zeros((6, 2, 3, 5), np.float32), "up": np.zeros((6, 4, 2, 2), np.float32),
        "matrix": np.zeros((7, 11), np.float32), "quantised": np.zeros((11, 3), np.int8), "scale": np.float32(1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "grouped"], ["a"], group=2, pads=[1, 2, 1, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["a", "up"], ["b"], strides=[2, 2]),
        helper.make_node("Gemm", ["y", "matrix"], ["c"], transA=1),
        helper.make_node("DequantizeLinear", ["quantised", "scale"], ["q"]),
        helper.make_node("MatMul", ["c", "q"], ["d"]),
        helper.make_node("MatMul", ["y", "c"], ["e"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 10]),
              helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 7])]  # fmt: skip
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "bde"]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "m.onnx")
    conv = 6 * 4 * 5 * 2 * 3 * 5  # outputs [6, 4, 5], sums over 2 channels and 3 x 5 places
    up = 6 * 4 * 5 * 4 * 2 * 2  # inputs [6, 4, 5], each spread over 4 channels and 2 x 2 places
    assert of_graph(tmp_path / "m.onnx", (8, 10)) == conv + up + 7 * 11 * 7 + 7 * 3 * 11


def test_models_are_compared_in_one_run(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file = str(classifier.with_suffix(".onnx"))
    options = BenchmarkOptions(
        model=(file,), against=str(classifier), engine=("torch", "onnxruntime"), batch=(1, 3), threads=1, rounds=2,
        seconds=0.001, memory=False, output=str(tmp_path / "b.json"), plot=str(tmp_path / "b.png"), quiet=True,
    )  # fmt: skip
    measured = benchmark(options)
    names = [item.subject.name for item in measured]
    assert torch.is_grad_enabled()  # whoever else lives in the process may be training
    assert names == ["c.safetensors torch", "c.onnx onnxruntime"] * 2
    assert [item.timing.batch for item in measured] == [1, 1, 3, 3]
    for item in measured:
        assert item.multiply_adds == measured[0].multiply_adds
        assert item.timing.share is not None
        assert item.timing.p50 <= item.timing.p95 <= item.timing.p99
    assert measured[0].timing.ratio == Spread(1.0, 1.0, 1.0)
    shown = capsys.readouterr().out
    assert "Images of 32x32; the peak is" in shown
    assert len(shown.splitlines()) == 6
    written: dict[str, Any] = json.loads((tmp_path / "b.json").read_text())
    assert written["against"] == "c.safetensors torch"
    assert [result["engine"].split()[0] for result in written["results"][:2]] == ["torch", "ONNX"]
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert "-" in table(measured, names[0])[1].split()  # no memory was measured


def test_files_of_one_name_and_several_hints_are_measured_apart(classifier: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    file = classifier.with_suffix(".onnx")
    (tmp_path / "other").mkdir()
    other = Path(shutil.copy(file, tmp_path / "other"))
    options = BenchmarkOptions(
        model=(str(file), str(other)), engine=("openvino",), batch=(1, 2), hint=("latency", "throughput"), threads=1,
        rounds=1, seconds=0.001, memory=False, quiet=True, output=str(tmp_path / "b.json"),
    )  # fmt: skip
    measured = benchmark(options)
    expected = [f"{os.path.relpath(path)} openvino {hint}" for path in (file, other) for hint in options.hint]
    assert [item.subject.name for item in measured] == expected * 2
    assert len({id(item.timing) for item in measured}) == 8
    rows = json.loads((tmp_path / "b.json").read_text())["results"]
    assert [row["hint"] for row in rows] == ["latency", "throughput"] * 4


def test_a_file_named_twice_is_one_and_a_hint_that_nobody_takes_is_refused(
    classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = classifier.with_suffix(".onnx")
    twice = (str(file), str(file.parent / "." / ".." / file.parent.name / file.name))
    quick: dict[str, Any] = {"rounds": 1, "seconds": 0.001, "batch": (1,), "memory": False, "quiet": True}
    assert len(benchmark(BenchmarkOptions(model=twice, engine=("onnxruntime",), **quick))) == 1
    capsys.readouterr()
    with pytest.raises(InputError, match="--hint latency: OpenVINO's, which runs none of the models here"):
        benchmark(BenchmarkOptions(model=twice, engine=("onnxruntime",), hint=("latency",), **quick))


def test_memory_is_that_of_a_process_of_its_own(classifier: Path) -> None:
    memory = measure_memory(str(classifier.with_suffix(".onnx")), "onnxruntime", 1, (32, 32), None, 1)
    if memory is None:
        pytest.skip("this system does not tell a process's memory")
    assert 5 < memory.before < memory.loaded <= memory.peak < 1000
    assert measure_memory("absent.onnx", "onnxruntime", 1, (32, 32), None, 1) is None
