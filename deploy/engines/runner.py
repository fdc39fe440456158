"""Runs a built engine: arrays in, arrays out.

Every optimization profile gets an execution context of its own, made when a picture first needs it, and runs the
batches for which it is the tightest. When the same shapes come again, copies and kernels are recorded once as a CUDA
graph and replayed: one launch in place of hundreds. A graph holds as long as nothing changes in its context, so other
shapes discard it.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from deploy.engines.binding import RTX, TITLES, library_log, said
from deploy.engines.device_memory import Buffer, DeviceMemory, Recording
from deploy.engines.profiles import Profile, Shape, largest_part, tightest

_TYPES = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64,
    "BOOL": np.bool_,
}  # fmt: skip
RECORD_AT = 2
"""The run with the same shapes that is recorded. The first lets TensorRT finish what a change of shapes began."""


@dataclass
class _Lane:
    """A profile's context, its buffers by tensor, and the recording for the shapes it now has."""

    context: Any
    shapes: dict[str, Shape] = field(default_factory=dict)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    runs: int = 0
    replay: Recording | None = None

    def discard(self) -> None:
        """Forget shapes and recording."""
        if self.replay is not None:
            self.replay.release()
        self.shapes, self.runs, self.replay = {}, 0, None


class EngineRunner:
    """A deserialised engine. Threads may share it; they run one after the other.

    Args:
        trt: the bindings that fit the engine.
        plan: its bytes.
        memory: of the device it runs on; the runner closes it.
        record: replay repeated shapes as CUDA graphs.

    Attributes:
        inputs, outputs: names, each with its NumPy type.
        profiles: the engine's own.

    Raises:
        InputError: the engine does not load here, or has a type that NumPy lacks.
    """

    def __init__(self, trt: Any, plan: bytes, memory: DeviceMemory, record: bool = True) -> None:
        self._memory, self._record = memory, record
        self._lock = threading.Lock()
        self._lanes: dict[int, _Lane] = {}
        self._trt, self._log = trt, library_log(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._load(plan)
        engine = self._engine
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        types = {name: _numpy_type(name, engine.get_tensor_dtype(name)) for name in names}
        entering = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self._types = types
        self.inputs = {name: types[name] for name in names if name in entering}
        self.outputs = {name: types[name] for name in names if name not in entering}
        self.profiles = tuple(self._profile(number) for number in range(engine.num_optimization_profiles))
        weakref.finalize(self, memory.close)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One batch.

        Args:
            inputs: by name; converted to the engine's types. A batch that no profile takes whole runs in parts.

        Returns:
            The outputs by name, in memory of their own.

        Raises:
            InputError: an input is missing or unknown, no profile holds the shapes, or the GPU reports a fault.
        """
        if inputs.keys() != self.inputs.keys():
            raise InputError(f"the engine takes {', '.join(self.inputs)}, not {', '.join(inputs) or 'nothing'}")
        arrays = {name: _converted(name, inputs[name], kind) for name, kind in self.inputs.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        batches = {shape[:1] for shape in shapes.values()}
        step = largest_part(self.profiles, shapes) if len(batches) == 1 else 0
        if not step:
            raise InputError(self._out_of_range(shapes))
        batch = next(iter(arrays.values())).shape[0]
        with self._lock:
            found = [
                self._run_part({name: array[first : first + step] for name, array in arrays.items()})
                for first in range(0, batch, step)
            ]
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([part[name] for part in found]) for name in self.outputs}

    def _run_part(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        shapes = {name: array.shape for name, array in arrays.items()}
        number = tightest(self.profiles, shapes)
        if number is None:
            raise InputError(self._out_of_range(shapes))
        lane = self._lane(number)
        if any(lane.shapes.get(name) != shape for name, shape in shapes.items()):
            self._set_shapes(lane, shapes)
        for name, array in arrays.items():
            lane.buffers[name].host[: array.nbytes] = array.reshape(-1).view(np.uint8)
        self._execute(lane)
        self._memory.finish()
        return {name: self._taken(lane, name) for name in self.outputs}

    def refit(self, onnx_path: Path) -> None:
        """Put the weights of an ONNX file with the same graph into an engine built with ``--refit`` or without weights.

        Raises:
            InputError: the file's graph is another one, or lacks weights.
        """
        trt, log = self._trt, self._log
        with self._lock:
            for lane in self._lanes.values():
                lane.discard()
            refitter = trt.Refitter(self._engine, log)
            weights_parser = trt.OnnxParserRefitter(refitter, log)
            if not weights_parser.refit_from_file(str(onnx_path)):
                raise InputError(f"{onnx_path}: its weights do not fit the engine: {said(log.errors)}")
            missing = refitter.get_missing_weights()
            if missing:
                raise InputError(f"{onnx_path}: lacks weights of the engine: {', '.join(sorted(missing)[:3])}")
            if not refitter.refit_cuda_engine():
                raise InputError(f"{onnx_path}: the engine refuses its weights: {said(log.errors)}")

    def _load(self, plan: bytes) -> Any:
        if self._trt.__name__ == RTX:
            validity, about = self._runtime.get_engine_validity(plan)
            if validity == self._trt.EngineValidity.INVALID:
                raise InputError(f"TensorRT-RTX cannot run this engine on {self._memory.gpu.name} ({about})")
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            title = TITLES.get(self._trt.__name__, self._trt.__name__)
            raise InputError(f"{title} {self._trt.__version__} cannot load the engine: {said(self._log.errors)}")
        return engine

    def _profile(self, number: int) -> Profile:
        ranges = {name: self._engine.get_tensor_profile_shape(name, number) for name in self.inputs}
        sides = ({name: tuple(shapes[place]) for name, shapes in ranges.items()} for place in range(3))
        return Profile(str(number), *sides)

    def _lane(self, number: int) -> _Lane:
        """The context of a profile; its activations take the memory that this profile needs, no more."""
        if number not in self._lanes:
            strategy = self._trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
            context = self._engine.create_execution_context(strategy)
            if context is None:
                raise InputError(f"no memory for profile {number}: {said(self._log.errors)}")
            if not context.set_optimization_profile_async(number, self._memory.stream):
                raise InputError(f"profile {number} is refused: {said(self._log.errors)}")
            self._memory.finish()
            self._lanes[number] = _Lane(context)
        return self._lanes[number]

    def _set_shapes(self, lane: _Lane, shapes: Mapping[str, Shape]) -> None:
        """Shapes and buffers for another kind of batch."""
        lane.discard()  # until all of it has worked, nothing is set
        context = lane.context
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise InputError(f"input {name} of shape {shape} is refused: {said(self._log.errors)}")
        unknown = context.infer_shapes()
        if unknown:
            raise InputError(f"shapes of {', '.join(unknown)} stay unknown: {said(self._log.errors)}")
        known = {**shapes, **{name: tuple(context.get_tensor_shape(name)) for name in self.outputs}}
        for name, shape in known.items():
            if min(shape, default=0) < 0:
                raise InputError(f"the shape of output {name} depends on values: {shape}")
            self._fit_buffer(lane, name, shape)
            if not context.set_tensor_address(name, lane.buffers[name].address):
                raise InputError(f"the buffer of {name} is refused: {said(self._log.errors)}")
        lane.shapes = known

    def _fit_buffer(self, lane: _Lane, name: str, shape: Shape) -> None:
        size = self._bytes(name, shape)
        old = lane.buffers.get(name)
        if old is not None and old.host.nbytes >= size:
            return
        if old is not None:
            self._memory.free(lane.buffers.pop(name))
        lane.buffers[name] = self._memory.allocate(size)

    def _execute(self, lane: _Lane) -> None:
        """Queue copies and kernels, or the recording of them."""
        lane.runs += 1
        if self._record and lane.runs == RECORD_AT:
            lane.replay = self._memory.capture(lambda: self._queue(lane))
        if lane.replay is not None:
            lane.replay.launch()
        else:
            self._queue(lane)

    def _queue(self, lane: _Lane) -> None:
        for name in self.inputs:
            self._memory.upload(lane.buffers[name], self._bytes(name, lane.shapes[name]))
        if not lane.context.execute_async_v3(self._memory.stream):
            raise InputError(f"the engine failed: {said(self._log.errors)}")
        for name in self.outputs:
            self._memory.download(lane.buffers[name], self._bytes(name, lane.shapes[name]))

    def _taken(self, lane: _Lane, name: str) -> NDArray[Any]:
        shape = lane.shapes[name]
        stored = lane.buffers[name].host[: self._bytes(name, shape)]
        return stored.view(self.outputs[name]).reshape(shape).copy()

    def _bytes(self, name: str, shape: Shape) -> int:
        return math.prod(shape) * self._types[name].itemsize

    def _out_of_range(self, shapes: Mapping[str, Shape]) -> str:
        asked = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        ranges = "; ".join(
            ", ".join(f"{name} {list(low)} to {list(profile.max[name])}" for name, low in profile.min.items())
            for profile in self.profiles
        )
        return f"no optimization profile holds {asked}; the engine has {ranges}"


def _converted(name: str, values: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    if not np.can_cast(values.dtype, kind, "same_kind"):
        raise InputError(f"input {name}: the engine takes {kind}, not {values.dtype}")
    return np.ascontiguousarray(values, kind)


def _numpy_type(name: str, kind: Any) -> np.dtype[Any]:
    title = str(kind).rpartition(".")[2]
    if title not in _TYPES:
        raise InputError(f"tensor {name} is of type {title}, which NumPy lacks; export it with floats there")
    return np.dtype(_TYPES[title])
