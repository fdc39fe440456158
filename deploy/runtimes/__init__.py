"""Engines behind one interface; none of them needs torch."""

from __future__ import annotations

from pathlib import Path

from deploy.runtimes.engines import choose_engine, open_session
from deploy.runtimes.exported_models import ClassifierRuntime, DetectorRuntime, SegmenterRuntime, ViewsRuntime
from deploy.runtimes.session import Session

Runtime = ClassifierRuntime | DetectorRuntime | SegmenterRuntime

_RUNTIMES: dict[str, type[Runtime]] = {
    "classification": ClassifierRuntime,
    "detection": DetectorRuntime,
    "segmentation": SegmenterRuntime,
}


def load_runtime(
    path: str | Path, threads: int | None = None, engine: str | None = None, hint: str = "latency"
) -> Runtime:
    """A model, ready to predict.

    Args:
        path: an ``.onnx`` or ``.plan`` file from ``deploy/export.py``.
        threads: processor threads; by default as many as there are cores.
        engine: ``openvino`` (preferred on a processor), ``onnxruntime`` or ``tensorrt``; by default the first that
            is installed and runs the file.
        hint: ``latency`` for single pictures, ``throughput`` for batches or several requests at once: OpenVINO then
            divides threads and batches among its streams. Other engines have one way.

    Raises:
        InputError: the file is missing, damaged, or was exported by something else; or the engine cannot run it.
    """
    path = Path(path)
    return runtime_of(open_session(path, choose_engine(path, engine), threads, hint))


def runtime_of(session: Session) -> Runtime:
    """The model that a session's metadata says it is."""
    metadata = session.metadata
    kind = ViewsRuntime if metadata.exported and metadata.exported.views else _RUNTIMES[metadata.task]
    return kind(session, metadata)
