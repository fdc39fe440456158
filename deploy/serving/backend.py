"""What Triton's Python backend calls: one step of an answer, with tensors from and to Triton."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from deploy.serving.opening import open_stage
from deploy.serving.stages import Stage

if TYPE_CHECKING:
    triton: Any
else:
    try:
        import triton_python_backend_utils as triton  # exists only in Triton's own processes
    except ImportError:
        triton = None

PYTHON_VERSION = "SHORTCUT_PYTHON_VERSION"
"""The launcher says in this variable which interpreter it meant."""


class TritonPythonModel:
    """One model of a repository that ``deploy/repository.py`` wrote. Triton finds the class by this name."""

    stage: Stage

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model's files.

        Args:
            args: from Triton: ``model_config`` as JSON, ``model_repository`` (the model's own folder) and
                ``model_version``.
        """
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        expected = os.environ.get(PYTHON_VERSION, sys.version)
        if sys.version != expected:  # Triton's stub found another libpython than that of its packages
            raise RuntimeError(f"runs on Python {sys.version}, but the server was started for {expected}")
        outputs = {output["name"]: output["data_type"].removeprefix("TYPE_") for output in config["output"]}
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.stage = open_stage(Path(args["model_repository"]) / args["model_version"], parameters, outputs)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton put into one batch."""
        taken = [{name: _array(request, name) for name in self.inputs} for request in requests]
        responses = []
        for answer in self.stage.run(taken):
            if isinstance(answer, InputError):
                error = triton.TritonError(" ".join(str(answer).split()), triton.TritonError.INVALID_ARG)
                responses.append(triton.InferenceResponse(output_tensors=[], error=error))
            else:
                tensors = [_tensor(name, array) for name, array in answer.items()]
                responses.append(triton.InferenceResponse(output_tensors=tensors))
        return responses


def _array(request: Any, name: str) -> NDArray[Any]:
    """An input without a copy. DLPack, since the stub's own arrays are wrong with numpy 2: all first elements."""
    return np.from_dlpack(triton.get_input_tensor_by_name(request, name))


def _tensor(name: str, array: NDArray[Any]) -> Any:
    return triton.Tensor.from_dlpack(name, _Lent(np.require(array, requirements=("C", "W"))))


class _Lent:
    """An array that the stub takes over by DLPack.

    The stub gives the capsule a name that numpy does not know, and numpy complains of it when the capsule goes: so its
    destructor is taken off. The stub frees the array itself.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, stream: None = None) -> Any:
        capsule = self.array.__dlpack__()
        ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
        return capsule
