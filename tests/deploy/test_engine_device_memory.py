"""Device memory through cuda-python's calls, on a stand-in that allocates on the host."""

from __future__ import annotations

import numpy as np
import pytest

from backbones.errors import InputError
from deploy.engines import device_memory
from deploy.engines.device_memory import CudaMemory, find_gpu
from deploy.engines.plan_metadata import Gpu
from tests.deploy.cuda_stand_in import Runtime


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    runtime = Runtime()
    monkeypatch.setattr(device_memory, "_runtime", lambda: runtime)
    return runtime


def test_bytes_go_there_and_back(cuda: Runtime) -> None:
    memory = CudaMemory()
    assert memory.gpu == find_gpu() == Gpu("NVIDIA L4", (8, 9))
    assert memory.stream == 77
    buffer = memory.allocate(10)
    buffer.host[:] = np.arange(10)
    memory.upload(buffer, 6)
    buffer.host[:] = 0
    memory.download(buffer, 10)
    memory.finish()
    assert buffer.host.tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 0, 0]
    memory.free(buffer)
    assert not cuda.held


def test_a_recording_repeats_what_was_queued(cuda: Runtime) -> None:
    memory = CudaMemory()
    one, other = memory.allocate(4), memory.allocate(4)
    recording = memory.capture(lambda: (memory.upload(one, 4), memory.upload(other, 4)))
    assert recording is not None
    for value in (3, 5):
        one.host[:] = value
        other.host[:] = value + 1
        recording.launch()
        one.host[:] = other.host[:] = 0
        memory.download(one, 4)
        memory.download(other, 4)
        assert (one.host[0], other.host[3]) == (value, value + 1)
    recording.release()
    recording.release()
    assert not cuda.graphs


def test_work_that_cannot_be_recorded_is_said_so(cuda: Runtime) -> None:
    def refuse() -> None:
        raise InputError("the engine failed")

    memory = CudaMemory()
    assert memory.capture(refuse) is None
    cuda.recordable = False
    assert memory.capture(lambda: None) is None
    assert cuda.recording is None  # the stream left its recording both times


def test_everything_is_given_back(cuda: Runtime) -> None:
    memory = CudaMemory()
    memory.allocate(0)
    memory.allocate(8)
    assert memory.capture(lambda: None) is not None
    memory.close()
    memory.close()
    assert (cuda.held, cuda.graphs, cuda.streams) == ({}, set(), 0)


def test_a_fault_names_the_call(cuda: Runtime) -> None:
    memory = CudaMemory()
    with pytest.raises(InputError, match="cudaMalloc: out of memory"):
        memory.allocate(2**30)


def test_without_a_gpu_or_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    monkeypatch.setattr(device_memory, "_runtime", lambda: runtime)
    monkeypatch.setattr(Runtime, "cudaGetDeviceCount", lambda self: (35, None))
    assert find_gpu() is None
    with pytest.raises(InputError, match=r"no NVIDIA GPU or driver here; a \.plan needs one"):
        CudaMemory()
    monkeypatch.undo()

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(device_memory, "import_module", missing)
    assert find_gpu() is None
    with pytest.raises(InputError, match="needs cuda-python"):
        CudaMemory()
