"""TensorRT and TensorRT-RTX: engines of NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from backbones.errors import InputError
from deploy.engines.binding import TITLES, import_trt
from deploy.engines.device_memory import CudaMemory, DeviceMemory
from deploy.engines.plan_metadata import check_plan, read_plan, weights_of
from deploy.engines.runner import EngineRunner


class TensorRTSession:
    """One loaded engine: named arrays in, named arrays out.

    Args:
        path: the ``.plan``, with its ``.plan.json`` beside it; and if it was built without weights, its ONNX file.
        trt: the bindings; by default those that built the engine.
        memory: of the device; by default the current GPU's.

    Raises:
        InputError: a file is missing or damaged, there is no GPU, or the engine is of another version or GPU: then the
            message holds the command that builds it here.
    """

    def __init__(self, path: Path, trt: Any = None, memory: DeviceMemory | None = None) -> None:
        plan, self.metadata, record = read_plan(path)
        weights = weights_of(path, record) if record.strip_weights else None
        trt = trt or import_trt(record.library)
        memory = memory or CudaMemory()
        check_plan(path, record, trt.__version__, memory.gpu)
        try:
            self.runner = EngineRunner(trt, plan, memory)
            if weights is not None:
                self.runner.refit(weights)
        except InputError as error:
            raise InputError(f"{path}: {error}; build it here: {record.rebuild}") from error
        self.engine = f"{TITLES[record.library]} {trt.__version__}"
        self.outputs = list(self.runner.outputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass.

        Raises:
            InputError: no profile of the engine holds these shapes.
        """
        return self.runner.run(inputs)
