"""CUDA's runtime on host memory: allocations are real, copies happen at once or into the graph that is recorded.

Names and numbers of arguments are those of the installed ``cuda.bindings.runtime``, where it is installed.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any


class Runtime:
    """Every function gives (status, value...)."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, memory: int = 2**20, recordable: bool = True) -> None:
        self.left, self.recordable = memory, recordable
        self.held: dict[int, Any] = {}
        self.graphs: set[int] = set()
        self.recording: list[Callable[[], Any]] | None = None
        self.works: dict[int, list[Callable[[], Any]]] = {}
        self.streams = 0

    def __getattribute__(self, name: str) -> Any:
        member = super().__getattribute__(name)
        return _counted(name, member) if name.startswith("cuda") and callable(member) else member

    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return 0, 1

    def cudaGetDevice(self) -> tuple[int, int]:
        return 0, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:
        return 0, SimpleNamespace(name=b"NVIDIA L4\0\0", major=8, minor=9)

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:
        return 0, b"out of memory"

    def cudaGetLastError(self) -> tuple[int]:
        return (0,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        self.streams += 1
        return 0, 77

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        self.streams -= 1
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        if size > self.left:
            return 2, 0
        return self._allocate(size)

    def cudaMallocHost(self, size: int) -> tuple[int, int]:
        return self._allocate(size)

    def cudaFree(self, devPtr: int) -> tuple[int]:
        del self.held[devPtr]
        return (0,)

    def cudaFreeHost(self, ptr: int) -> tuple[int]:
        del self.held[ptr]
        return (0,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: int, stream: int) -> tuple[int]:
        self._do(lambda: ctypes.memmove(dst, src, count))
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.recording = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        work, self.recording = self.recording, None
        return (0, work) if self.recordable else (901, None)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, int]:
        number = len(self.works) + 1
        self.works[number] = graph
        self.graphs.add(number)
        return 0, number

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        return (0,)

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[int]:
        for work in self.works[graphExec]:
            work()
        return (0,)

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[int]:
        self.graphs.remove(graphExec)
        return (0,)

    def _allocate(self, size: int) -> tuple[int, int]:
        memory = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(memory)] = memory
        return 0, ctypes.addressof(memory)

    def _do(self, work: Callable[[], Any]) -> None:
        if self.recording is None:
            work()
        else:
            self.recording.append(work)


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after a look at the real one's first line of documentation: ``cudaMalloc(size_t size)``."""
    try:
        real = getattr(import_module("cuda.bindings.runtime"), name)
    except ImportError:
        return function
    signature = re.match(r"\w+\((.*)\)", real.__doc__.strip().splitlines()[0])
    assert signature is not None, name
    wanted = len(signature[1].split(",")) if signature[1].strip() else 0

    def call(*arguments: Any) -> Any:
        assert len(arguments) == wanted, f"{name} takes {signature[1]}"
        return function(*arguments)

    return call
