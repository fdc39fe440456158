#!/usr/bin/env python
"""Writers of int8 files behind the same gate: ours, ONNX Runtime's and nncf's, on the same pictures and labelled data.

    python tests/benchmarks/quantisers.py --model WEIGHTS.pth.xz --arch resnet18 --split all \\
        --classes data/imagenet60/wnids_1000_sorted.txt --dataset folder:data/imagenet60 --nncf OTHER/bin/python
    python tests/benchmarks/quantisers.py --model runs/digits-fpn --split val

Each quantises every layer; then, where the gate fails, the layers that our ranking finds most sensitive stay in fp32,
as in ``deploy/export.py``. ``onnxruntime-ranges`` is ONNX Runtime's writer with our ranges. nncf lives in an
environment of its own, with onnx beside it; without ``--nncf`` it is left out. Results of several calls gather in one
file.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from backbones.running.measurement import SMALL, write_measurement
from deploy import load_runtime
from deploy.export_options import ExportOptions
from deploy.exportable import open_exportable
from deploy.gates import GATES
from deploy.onnx_export import trace, write_onnx
from deploy.precision.accuracy import LabelledData, Marks
from deploy.precision.calibration import PICTURES, Feed, symmetric_limit
from deploy.precision.layer_choice import Quantiser, Sensitivity, disturbance

ENGINES = tuple(name for name in ("openvino", "onnxruntime") if find_spec(name))
METHODS = {
    "minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "ranges": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
}  # fmt: skip
QUANTISERS = ("ours", "ours-cpu", *(f"onnxruntime-{method}" for method in METHODS), "nncf")
WHAT = (
    "int8 files of several quantisers on the same pictures: megabytes, seconds of calibrating and writing, how far all "
    "layers in eight bits move the outputs (0 to 1; of logits, over their spread), milliseconds and their ratio to "
    "fp32's in turns; then behind the gate: layers left in fp32, and marks in per cent"
)
NNCF = """
import sys, numpy, onnx, nncf
source, feeds, target, *left = sys.argv[1:]
stored, batches = numpy.load(feeds), {}
for key in stored.files:
    number, name = key.split("|")
    batches.setdefault(int(number), {})[name] = stored[key]
scope = nncf.IgnoredScope(names=left) if left else None
data = nncf.Dataset([batches[number] for number in sorted(batches)])
onnx.save(nncf.quantize(onnx.load(source), data, subset_size=len(batches), ignored_scope=scope), target)
"""
Row = dict[str, Any]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterable[Feed]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self.feeds, None)


class Borrowed(Quantiser):
    """Another's writer under our choice of layers; the ranking is ours, made once.

    None of them stores weights alone in eight bits, so layers left in fp32 stay whole whether that is tried or not.
    """

    def __init__(self, ours: Quantiser, folder: Path) -> None:
        self.model, self.feeds, self.layers = ours.model, ours.feeds, ours.layers
        self.ours, self.folder = ours, folder

    def rank(self) -> list[Sensitivity]:
        return self.ours.rank()


class OnnxRuntimeQuantiser(Borrowed):
    """Symmetric, per channel, biases in fp32, and nothing behind the layers: the form of our own files."""

    def __init__(self, ours: Quantiser, folder: Path, method: str) -> None:
        super().__init__(ours, folder)
        self.method = method

    def without(self, names: Iterable[str], weights_only: bool = False) -> onnx.ModelProto:
        left, kinds = set(names), ["Conv", "Gemm", "MatMul"]
        options: dict[str, Any] = {
            "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": kinds,
        }  # fmt: skip
        if self.method == "ranges":
            limits = {name: np.float32(symmetric_limit(seen)) for name, seen in self.ours.statistics.items()}
            options["TensorQuantOverrides"] = {
                name: [{"scale": np.array(limit / 127, np.float32), "zero_point": np.array(0, np.int8)}]
                for name, limit in limits.items()
            }  # fmt: skip
        target = self.folder / "quantised.onnx"
        quantize_static(  # it moves the tensors of the model it is given out into a file that it deletes
            copy.deepcopy(self.model), target, _Reader(self.feeds), QuantFormat.QDQ, op_types_to_quantize=kinds,
            per_channel=True,
            nodes_to_quantize=[layer.name for layer in self.layers if layer.name not in left],
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=METHODS[self.method],
            extra_options=options, calibration_cache_path=self.folder / f"{self.method}.json",
        )  # fmt: skip
        return onnx.load(target)


class NncfQuantiser(Borrowed):
    """nncf in its own interpreter, as its users call it: what it wants in eight bits, with its bias correction."""

    def __init__(self, ours: Quantiser, folder: Path, python: str) -> None:
        super().__init__(ours, folder)
        self.python = python

    def without(self, names: Iterable[str], weights_only: bool = False) -> onnx.ModelProto:
        source, feeds, target = (self.folder / name for name in ("source.onnx", "feeds.npz", "target.onnx"))
        onnx.save(self.model, source)
        np.savez(
            feeds, **{f"{place}|{name}": value for place, feed in enumerate(self.feeds) for name, value in feed.items()}
        )
        command = [self.python, "-c", NNCF, str(source), str(feeds), str(target), *names]
        subprocess.run(command, check=True, capture_output=True)
        return onnx.load(target)


def main() -> None:
    options = parse()
    if not options.nncf:
        print("nncf is left out; --nncf PYTHON names an environment that has it")
    results = json.loads(options.output.read_text(encoding="utf-8"))["results"] if options.output.is_file() else {}
    name = Path(options.model).name.split("_imagenet")[0]
    with tempfile.TemporaryDirectory() as folder:
        for rows in measured(options, Path(folder)):
            write_measurement(options.output, what=WHAT, scale=SMALL, results={**results, name: rows})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a run folder or weights")
    parser.add_argument("--arch", help="of weights that do not say")
    parser.add_argument("--classes", help="of weights that do not say")
    parser.add_argument("--dataset", default="digits", help="that calibrates, and whose marks decide")
    parser.add_argument("--split", default="val")
    parser.add_argument("--flavour", default="ops", help="of detectors")
    parser.add_argument("--quantisers", nargs="+", default=QUANTISERS, choices=QUANTISERS)
    parser.add_argument("--nncf", metavar="PYTHON", help="an interpreter that has nncf and onnx")
    parser.add_argument("--gate", action=argparse.BooleanOptionalAction, default=True, help="choose layers, too")
    parser.add_argument("--rounds", type=int, default=20, help="of the latency; 0 leaves it out")
    parser.add_argument("--output", type=Path, default=Path("results/quantisers.json"))
    return parser.parse_args()


def measured(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Row]]:
    """A row for each quantiser, told again whenever they have grown: all layers, then their latency, then the gate."""
    kind = open_exportable(
        ExportOptions(model=options.model, arch=options.arch, classes=options.classes, flavour=options.flavour)
    )
    data = LabelledData(kind.judged, options.dataset, options.split, None)
    graph, metadata = kind.graph("int8"), kind.metadata("int8", options.flavour)
    model = trace(graph, kind.example, graph.outputs, kind.shapes, "int8", kind.argument)
    ours = _RankedOnce(model, list(kind.feeds(data.some(PICTURES))), "int8", "tensorrt")
    names = [name for name in options.quantisers if name != "nncf" or options.nncf]
    files = {name: folder / f"{name}.onnx" for name in ("fp32", *names)}
    write_onnx(model, metadata, files["fp32"])
    rows: dict[str, Row] = {"fp32": {"megabytes": round(files["fp32"].stat().st_size / 1e6, 2)}}
    wanted = outputs(files["fp32"], ours.feeds)
    made: dict[str, Quantiser] = {}
    for name in names:
        begun = time.perf_counter()
        made[name] = quantiser_of(name, ours, folder, options)
        candidate = made[name].without(())
        seconds = time.perf_counter() - begun
        write_onnx(candidate, metadata, files[name])
        apart = [disturbance(a, b) for a, b in zip(wanted, outputs(files[name], ours.feeds), strict=True)]
        rows[name] = {
            "seconds": round(seconds, 1), "megabytes": round(files[name].stat().st_size / 1e6, 2),
            "disturbance": round(statistics.mean(apart), 4),
        }  # fmt: skip
        print(name, json.dumps(rows[name]), flush=True)
        yield rows
    for name, speeds in (latency(files, ours.feeds[0], options.rounds) if options.rounds else {}).items():
        rows[name]["latency"] = speeds
        print(name, json.dumps(speeds), flush=True)
    yield rows
    for name in names if options.gate else ():
        rows[name]["gate"] = chosen(made[name], data, metadata, files[name])
        print(name, json.dumps(rows[name]["gate"]), flush=True)
        yield rows


def outputs(file: Path, feeds: Sequence[Feed]) -> list[dict[str, Any]]:
    session = load_runtime(file, engine=ENGINES[0]).session
    return [session.run(feed) for feed in feeds]


def chosen(quantiser: Quantiser, data: LabelledData, metadata: dict[str, Any], file: Path) -> Row:
    """What is left in fp32 until the gate holds in every engine, and the marks then."""

    def judge(candidate: onnx.ModelProto) -> list[Marks]:
        write_onnx(candidate, metadata, file)
        return [data.compare(load_runtime(file, engine=engine)) for engine in ENGINES]

    _, choice, marks = quantiser.choose(judge, _passed)
    return {
        "left": len(choice.left), "layers": choice.layers, "met": _passed(marks), "images": len(data),
        "megabytes": round(file.stat().st_size / 1e6, 2),
        "marks": {mark.engine: [mark.metric, mark.trained, mark.exported] for mark in marks},
    }  # fmt: skip


class _RankedOnce(Quantiser):
    _ranking: list[Sensitivity] | None = None

    def rank(self) -> list[Sensitivity]:
        self._ranking = self._ranking or super().rank()
        return self._ranking


def quantiser_of(name: str, ours: Quantiser, folder: Path, options: argparse.Namespace) -> Quantiser:
    """Calibrated, where it is ours."""
    if name.startswith("ours"):
        quantiser = Quantiser(ours.model, ours.feeds, "int8", "cpu" if name == "ours-cpu" else "tensorrt")
        quantiser.rank = ours.rank  # type: ignore[method-assign]
        return quantiser
    if name == "nncf":
        return NncfQuantiser(ours, folder, options.nncf)
    return OnnxRuntimeQuantiser(ours, folder, name.removeprefix("onnxruntime-"))


def _passed(marks: list[Marks]) -> bool:
    return max(mark.loss for mark in marks) <= GATES["int8"].loss


def latency(files: dict[str, Path], feed: Feed, rounds: int) -> dict[str, Row]:
    """Milliseconds of one picture in each engine, and the ratio to fp32 of the same round: least, median, most."""
    sessions = {
        (name, engine): load_runtime(file, engine=engine).session for name, file in files.items() for engine in ENGINES
    }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
    for round_ in range(rounds + 1):
        for key, session in sessions.items():
            begun = time.perf_counter()
            session.run(feed)
            if round_:
                seconds[key].append(time.perf_counter() - begun)
    found: dict[str, Row] = {name: {} for name in files}
    for (name, engine), taken in seconds.items():
        ratios = sorted(mine / fp32 for mine, fp32 in zip(taken, seconds["fp32", engine], strict=True))
        found[name][engine] = {
            "ms": round(1000 * statistics.median(taken), 2),
            "ratio": [round(value, 3) for value in (ratios[0], statistics.median(ratios), ratios[-1])],
        }  # fmt: skip
    return found


if __name__ == "__main__":
    main()
