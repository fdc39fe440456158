"""A stand-in for TensorRT's runtime half, and for a GPU's memory, so that the runner can be tested without a GPU.

Every class, method and argument is checked against the API list; ONNX Runtime does the arithmetic, on the ONNX file
that the stand-in's plan names. So control flow is tested, not kernels.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import onnxruntime

from deploy.engines.device_memory import Buffer
from deploy.engines.plan_metadata import EngineRecord, Gpu, sha256_of, sidecar_of
from deploy.engines.profiles import Profile
from tests.deploy.tensorrt_api import api, fits

_C = TypeVar("_C", bound=type)
_TYPES = {
    "tensor(float)": ("FLOAT", np.float32), "tensor(uint8)": ("UINT8", np.uint8), "tensor(int64)": ("INT64", np.int64),
    "tensor(bool)": ("BOOL", np.bool_), "tensor(float16)": ("HALF", np.float16),
}  # fmt: skip
GPU = Gpu("NVIDIA L4", (8, 9))


def checked(cls: _C) -> _C:
    """Refuse every public method that the real class lacks, and every call that none of its overloads takes."""
    real = api()["classes"][cls.__name__]
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        assert name in real, f"{cls.__name__}.{name} is not in TensorRT {api()['version']}"
        if callable(member):
            setattr(cls, name, _checked_call(f"{cls.__name__}.{name}", member, real[name]))
    return cls


def _checked_call(title: str, method: Callable[..., Any], overloads: list[list[str]]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        assert fits(overloads, len(arguments), list(named)), f"{title}: {arguments} {named} fits none of {overloads}"
        return method(self, *arguments, **named)

    return call


def _enum(name: str) -> SimpleNamespace:
    return SimpleNamespace(**{member: f"{name}.{member}" for member in api()["enums"][name]})


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None: ...


@checked
class IExecutionContext:
    def __init__(self, engine: Any) -> None:
        self._engine, self._profile = engine, None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._profile = self._engine._profiles[profile_index]
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, high = self._profile.min[name], self._profile.max[name]
        fitting = len(shape) == len(low) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if fitting:
            self._shapes[name] = shape
        return fitting

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine._inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = self._shapes["images"][0]
        return tuple(batch if isinstance(side, str) else side for side in self._engine._outputs[name].shape)

    def execute_async_v3(self, stream_handle: int) -> bool:
        feeds = {name: self._at(name, self._shapes[name], node) for name, node in self._engine._inputs.items()}
        results = self._engine._session.run(None, {name: array.copy() for name, array in feeds.items()})
        for (name, node), values in zip(self._engine._outputs.items(), results, strict=True):
            self._at(name, values.shape, node)[...] = values
        return True

    def _at(self, name: str, shape: tuple[int, ...], node: Any) -> Any:
        kind = np.dtype(_TYPES[node.type][1])
        size = int(np.prod(shape)) * kind.itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self._addresses[name]), kind).reshape(shape)


@checked
class ICudaEngine:
    def __init__(self, about: dict[str, Any]) -> None:
        self._session = onnxruntime.InferenceSession(about["onnx"], providers=["CPUExecutionProvider"])
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        self._outputs = {node.name: node for node in self._session.get_outputs()}
        self._profiles = [Profile.from_dict(profile) for profile in about["profiles"]]

    num_io_tensors = property(lambda self: len(self._inputs) + len(self._outputs))
    num_optimization_profiles = property(lambda self: len(self._profiles))

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> str:
        return f"TensorIOMode.{'INPUT' if name in self._inputs else 'OUTPUT'}"

    def get_tensor_dtype(self, name: str) -> str:
        return "DataType." + _TYPES[{**self._inputs, **self._outputs}[name].type][0]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        profile = self._profiles[profile_index]
        return [tuple(shapes[name]) for shapes in (profile.min, profile.opt, profile.max)]

    def create_execution_context(self, strategy: str) -> IExecutionContext:
        assert strategy.startswith("ExecutionContextAllocationStrategy.")
        return IExecutionContext(self)


@checked
class Runtime:
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        try:
            return ICudaEngine(json.loads(serialized_engine))
        except ValueError:  # as the real one does with another program's file: a message, and no engine
            self._logger.log(ILogger.ERROR, "Serialization assertion failed: magic tag does not match")
            return None

    def get_engine_validity(self, buffer: bytes) -> tuple[str, str]:
        return (
            "EngineValidity.VALID" if b"unsupported" not in buffer else "EngineValidity.INVALID",
            "compute capability",
        )


@checked
class Refitter:
    def __init__(self, engine: ICudaEngine, logger: Any) -> None:
        self._engine, self._missing = engine, {"conv1.weight"}

    def get_missing_weights(self) -> set[str]:
        return self._missing

    def refit_cuda_engine(self) -> bool:
        return not self._missing


@checked
class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: Any) -> None:
        self._refitter = refitter

    def refit_from_file(self, model: str) -> bool:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        engine = self._refitter._engine
        if [node.name for node in session.get_outputs()] != list(engine._outputs):
            return False
        engine._session, self._refitter._missing = session, set()
        return True


def stand_in(name: str = "tensorrt") -> Any:
    """A module as ``import_trt`` gives it."""
    enums = {key: _enum(key) for key in api()["enums"]}
    classes = (ILogger, Runtime, Refitter, OnnxParserRefitter)
    return SimpleNamespace(
        __name__=name, __version__=api()["version"], **enums, **{cls.__name__: cls for cls in classes}
    )


class HostMemory:
    """The protocol of a device, on host memory; what is queued happens at once, and what is recorded is counted."""

    stream = 7

    def __init__(self, gpu: Gpu = GPU, records: bool = True) -> None:
        self.gpu, self.records = gpu, records
        self.device: dict[int, np.ndarray] = {}
        self.recorded = self.replayed = self.released = 0
        self.closed = False

    def allocate(self, size: int) -> Buffer:
        on_device = np.zeros(max(size, 1), np.uint8)
        self.device[on_device.ctypes.data] = on_device
        return Buffer(on_device.ctypes.data, np.zeros(max(size, 1), np.uint8))

    def free(self, buffer: Buffer) -> None:
        del self.device[buffer.address]

    def upload(self, buffer: Buffer, size: int) -> None:
        self.device[buffer.address][:size] = buffer.host[:size]

    def download(self, buffer: Buffer, size: int) -> None:
        buffer.host[:size] = self.device[buffer.address][:size]

    def capture(self, queue: Callable[[], None]) -> _Replay | None:
        if not self.records:
            return None
        self.recorded += 1
        return _Replay(self, queue)

    def finish(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class _Replay:
    def __init__(self, memory: HostMemory, queue: Callable[[], None]) -> None:
        self.memory, self.queue = memory, queue

    def launch(self) -> None:
        self.memory.replayed += 1
        self.queue()

    def release(self) -> None:
        self.memory.released += 1


def write_plan(path: Path, onnx_path: Path, profiles: tuple[Profile, ...], metadata: Any, **changes: Any) -> Path:
    """A plan that the stand-in reads, with its sidecar."""
    path.write_text(json.dumps({"onnx": str(onnx_path), "profiles": [profile.to_dict() for profile in profiles]}))
    record = EngineRecord(**{
        "library": "tensorrt", "version": api()["version"], "gpu": GPU, "hardware_compatibility": "none",
        "version_compatible": False, "refit": False, "strip_weights": False, "profiles": profiles,
        "onnx": onnx_path.name, "onnx_sha256": sha256_of(onnx_path), "seconds": 1.0,
        "rebuild": "python deploy/export.py --model m.onnx --format tensorrt", **changes,
    })  # fmt: skip
    about = {**metadata, "sha256": sha256_of(path), "engine": record.to_dict()}
    sidecar_of(path).write_text(json.dumps(about))
    return path
