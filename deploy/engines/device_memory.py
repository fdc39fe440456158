"""Memory, copies, a stream and graphs of a GPU, through NVIDIA's ``cuda-python``; torch is not needed.

The runner knows only the protocol ``DeviceMemory``, so its logic can be tested on host memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.extras import install
from deploy.engines.plan_metadata import Gpu


class Recording(Protocol):
    """Queued work that was recorded as a graph."""

    def launch(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class Buffer:
    """The same bytes twice.

    Attributes:
        address: on the device.
        host: [size] uint8, page-locked, so that copies run beside the processor.
    """

    address: int
    host: NDArray[np.uint8]


class DeviceMemory(Protocol):
    """What a runner needs of a device. Copies and launches are queued on one stream; ``finish`` waits for them."""

    @property
    def gpu(self) -> Gpu: ...

    @property
    def stream(self) -> int: ...

    def allocate(self, size: int) -> Buffer: ...

    def free(self, buffer: Buffer) -> None: ...

    def upload(self, buffer: Buffer, size: int) -> None: ...

    def download(self, buffer: Buffer, size: int) -> None: ...

    def capture(self, queue: Callable[[], None]) -> Recording | None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class CudaMemory:
    """The current GPU (``CUDA_VISIBLE_DEVICES`` chooses), with a stream of its own.

    Raises:
        InputError: there is no GPU, no driver, or no ``cuda-python``.
    """

    def __init__(self) -> None:
        self._cuda = _runtime()
        gpu = find_gpu()
        if gpu is None:
            raise InputError("no NVIDIA GPU or driver here; a .plan needs one, the .onnx file runs without")
        self.gpu = gpu
        self.stream_object = self.call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        self._buffers: dict[int, int] = {}  # device address -> host address
        self._recordings: set[_CudaGraph] = set()

    @property
    def stream(self) -> int:
        return int(self.stream_object)

    def allocate(self, size: int) -> Buffer:
        """Memory for ``size`` bytes on the device, and as much on the host.

        Raises:
            InputError: there is not enough.
        """
        size = max(size, 1)
        address = int(self.call("cudaMalloc", size))
        host = int(self.call("cudaMallocHost", size))
        self._buffers[address] = host
        return Buffer(address, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host)))

    def free(self, buffer: Buffer) -> None:
        """Give a buffer back; nothing queued may still use it."""
        self.call("cudaFreeHost", self._buffers.pop(buffer.address))
        self.call("cudaFree", buffer.address)

    def upload(self, buffer: Buffer, size: int) -> None:
        """Queue a copy of the first ``size`` bytes to the device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", buffer.address, self._buffers[buffer.address], size, kind, self.stream_object)

    def download(self, buffer: Buffer, size: int) -> None:
        """Queue a copy of the first ``size`` bytes to the host."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", self._buffers[buffer.address], buffer.address, size, kind, self.stream_object)

    def capture(self, queue: Callable[[], None]) -> Recording | None:
        """Record what ``queue`` queues as a CUDA graph, without running it.

        Returns:
            Its ``launch`` queues all of it at once. None where the work cannot be recorded.
        """
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.stream_object, mode)
        try:
            queue()
        except InputError:
            recorded = False
        else:
            recorded = True
        finally:  # the stream leaves its recording whatever happened
            status, graph = self._cuda.cudaStreamEndCapture(self.stream_object)
        if not recorded or int(status) != 0:
            self._cuda.cudaGetLastError()  # a failed recording is no error of what follows
            return None
        recording = _CudaGraph(self, self.call("cudaGraphInstantiate", graph, 0))
        self.call("cudaGraphDestroy", graph)
        self._recordings.add(recording)
        return recording

    def forget(self, recording: _CudaGraph) -> None:
        """Give a recording back, after what it queued is done."""
        if recording in self._recordings:
            self._recordings.remove(recording)
            self.finish()
            self.call("cudaGraphExecDestroy", recording.graph)

    def finish(self) -> None:
        """Wait until all that is queued is done."""
        self.call("cudaStreamSynchronize", self.stream_object)

    def close(self) -> None:
        """Give everything back."""
        if self.stream_object is None:
            return
        for recording in list(self._recordings):
            self.forget(recording)
        self.finish()
        for address, host in self._buffers.items():
            self.call("cudaFreeHost", host)
            self.call("cudaFree", address)
        self.call("cudaStreamDestroy", self.stream_object)
        self._buffers, self.stream_object = {}, None

    def call(self, name: str, *arguments: Any) -> Any:
        """A function of the CUDA runtime; its failure becomes an InputError."""
        return _checked(self._cuda, name, getattr(self._cuda, name)(*arguments))


@dataclass(frozen=True, eq=False)
class _CudaGraph:
    memory: CudaMemory
    graph: Any

    def launch(self) -> None:
        self.memory.call("cudaGraphLaunch", self.graph, self.memory.stream_object)

    def release(self) -> None:
        self.memory.forget(self)


def find_gpu() -> Gpu | None:
    """The GPU that CUDA would use, or None where there is none, or nothing to ask with."""
    try:
        cuda = _runtime()
    except InputError:
        return None
    status, count = cuda.cudaGetDeviceCount()
    if int(status) != 0 or not count:
        return None
    number = _checked(cuda, "cudaGetDevice", cuda.cudaGetDevice())
    about = _checked(cuda, "cudaGetDeviceProperties", cuda.cudaGetDeviceProperties(number))
    name = about.name.decode() if isinstance(about.name, bytes) else str(about.name)
    return Gpu(name.rstrip("\0"), (about.major, about.minor))


def _runtime() -> Any:
    try:
        return import_module("cuda.bindings.runtime")
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f"running a .plan needs cuda-python: {install('tensorrt')}, or '.[tensorrt-rtx]' for TensorRT-RTX"
        ) from error


def _checked(cuda: Any, name: str, result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call. Every call gives (status, values...).

    Raises:
        InputError: the status is an error.
    """
    status, *values = result
    if int(status) != 0:
        _, text = cuda.cudaGetErrorString(status)
        words = text.decode() if isinstance(text, bytes) else str(text)
        raise InputError(f"{name}: {words}")
    return values[0] if values else None
