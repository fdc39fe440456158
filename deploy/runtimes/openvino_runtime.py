"""OpenVINO: the fastest engine on a processor, and the default there."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.metadata import KEY, ModelMetadata, read_exported
from deploy.runtimes.session import shapes_of


@functools.cache
def _core() -> openvino.Core:
    """One for the process, never freed.

    Its plugin for processors gives the thread a signal stack of its own and, freed, unmaps it; of two such stacks the
    second then restores the first, which is gone, and the next signal with a Python handler ends the process.
    """
    return openvino.Core()


class OpenVinoSession:
    """One loaded file: named arrays in, named arrays out.

    Args:
        path: the ``.onnx`` file.
        threads: processor threads; by default as many as there are cores.
        hint: ``latency``: all threads work on one batch; ``throughput``: they are divided into streams, and so is a
            batch, so that no thread waits for another at every layer.

    Raises:
        InputError: the file is missing, damaged, or has no metadata of ours.
    """

    engine = f"OpenVINO {openvino.__version__.split('-')[0]}"

    def __init__(self, path: Path, threads: int | None = None, hint: str = "latency") -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        core = _core()
        try:
            model = core.read_model(path)
        except Exception as error:  # OpenVINO raises plain RuntimeErrors of many lines
            raise InputError(f"{path}: OpenVINO cannot read it ({first_line(error)})") from error
        self.metadata: ModelMetadata = read_exported(_metadata(model), path)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",  # the types in the file hold; without it bf16 takes over where it can
            "PERFORMANCE_HINT": hint.upper(),
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled = core.compile_model(model, "CPU", settings)
        except Exception as error:
            raise InputError(f"{path}: OpenVINO cannot compile it ({first_line(error)})") from error
        assert self.metadata.exported is not None
        ours = self.metadata.exported.outputs
        self.outputs = [_name(output, ours) for output in self._compiled.outputs]
        self._streams = 1 if hint == "latency" else int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests = threading.local()
        self._shapes = {value.get_any_name(): value.get_partial_shape() for value in self._compiled.inputs}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass. Each thread has its own requests, so they may share the session.

        Raises:
            InputError: the file does not take inputs of these shapes.
        """
        for name, value in inputs.items():  # OpenVINO itself takes some wrong ones, and reads beyond them
            if not self._shapes[name].compatible(openvino.PartialShape(list(value.shape))):
                raise InputError(f"{self.engine} refuses {shapes_of(inputs)}: {name} must be {self._shapes[name]}")
        if len({len(value) for value in inputs.values()}) > 1:
            raise InputError(f"{self.engine} refuses {shapes_of(inputs)}: not as many of each")
        try:
            return self._infer(inputs)
        except RuntimeError as error:
            self._requests.own = []  # some may still be at work
            raise InputError(f"{self.engine} refuses {shapes_of(inputs)}: {first_line(error)}") from error

    def _infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The batch in as many parts as there are streams for it."""
        batch = len(next(iter(inputs.values())))
        requests = self._own_requests(max(1, min(self._streams, batch)))
        cuts = [batch * number // len(requests) for number in range(len(requests) + 1)]
        for request, first, end in zip(requests, cuts, cuts[1:], strict=False):
            request.start_async({name: np.ascontiguousarray(value[first:end]) for name, value in inputs.items()})
        for request in requests:
            request.wait()
        return {name: np.concatenate([request.get_tensor(name).data for request in requests]) for name in self.outputs}

    def _own_requests(self, count: int) -> list[Any]:
        """Of the calling thread."""
        own: list[Any] = getattr(self._requests, "own", [])
        own += [self._compiled.create_infer_request() for _ in range(count - len(own))]
        self._requests.own = own
        return own[:count]


def _name(output: Any, ours: Sequence[str]) -> str:
    """An output may bear the names of several tensors; one of them is ours."""
    names: set[str] = output.get_names()
    return next((name for name in ours if name in names), output.get_any_name())


def _metadata(model: openvino.Model) -> str | None:
    if not model.has_rt_info(["framework", KEY]):
        return None
    text: str = model.get_rt_info(["framework", KEY]).astype(str)
    return text


def first_line(error: Exception) -> str:
    """The sentence in OpenVINO's report that says something: the last that is no place in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join((telling or lines or [type(error).__name__])[-1].split())[:200]
