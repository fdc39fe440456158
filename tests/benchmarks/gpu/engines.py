"""The item that runs engines which were built without a GPU."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from deploy.engines.plan_metadata import read_plan, weights_of
from deploy.runtimes import load_runtime
from deploy.runtimes.exported_models import ClassifierRuntime, DetectorRuntime
from detection.agreement import agreement
from detection.data.digits import compose_scene
from tests.benchmarks.gpu.data import PLANS
from tests.benchmarks.gpu.item import Finding, Place, Record

LIBRARIES = ("tensorrt_rtx", "tensorrt")
_PICTURES, _CALLS = 4, 50


def cannot_run(place: Place) -> str:
    """Why engines can't run there; empty if they can. A rehearsal runs their ONNX files in their place."""
    if not list((place.data / PLANS).glob(place.size("*.plan", "*.onnx"))):
        return f"no data: {PLANS}"
    installed = place.tiny or any(find_spec(library) for library in LIBRARIES)
    return "" if installed else f"neither {' nor '.join(LIBRARIES)} is installed"


def run_engines(place: Place, record: Record) -> Finding:
    """Each engine against its ONNX file in ONNX Runtime: what they find alike, and how fast both answer one picture."""
    for file in sorted((place.data / PLANS).glob(place.size("*.plan", "*.onnx"))):
        record.once(file.stem, lambda file=file: _compared(file, source_of(file), place.size(_CALLS, 2)))
    shares = {name: found["alike"] for name, found in record.results.items()}
    summary = ", ".join(f"{name} {share:.1%} alike" for name, share in shares.items())
    return Finding(summary, min(shares.values()) >= 0.98)


def source_of(file: Path) -> Path:
    """The ONNX file beside an engine that it was built from, as its sidecar says; of an ONNX file itself.

    Raises:
        InputError: the sidecar or the ONNX file is missing, or they do not belong together.
    """
    return weights_of(file, read_plan(file)[2]) if file.suffix == ".plan" else file


def _compared(file: Path, source: Path, calls: int) -> dict[str, Any]:
    ours, theirs = (
        load_runtime(file, engine=None if file.suffix == ".plan" else "onnxruntime"),
        load_runtime(source, engine="onnxruntime"),
    )
    pictures = [compose_scene("val", number).image for number in range(_PICTURES)]
    if isinstance(ours, ClassifierRuntime):
        found, wanted = ours.predict(pictures), theirs.predict(pictures)
        alike = float((np.abs(np.asarray(found) - np.asarray(wanted)) < 0.01).mean())
    else:
        assert isinstance(ours, DetectorRuntime)
        found, wanted = ours.predict(pictures, threshold=0), theirs.predict(pictures, threshold=0)
        alike = agreement(wanted, found).rate
    times = {name: _milliseconds(model, pictures[:1], calls) for name, model in (("ours", ours), ("ONNX", theirs))}
    return {"engine": ours.session.engine, "alike": alike, "milliseconds": times}


def _milliseconds(model: Any, pictures: list[Any], calls: int) -> float:
    model.predict(pictures)
    begun = time.perf_counter()
    for _ in range(calls):
        model.predict(pictures)
    return round(1000 * (time.perf_counter() - begun) / calls, 2)
