"""What Triton's Python backend calls: the files of several requests in, tensors out."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from deploy.runtimes import runtime_of
from deploy.serving.service import ABOUT, open_service, tensors_of, whole

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

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model's files.

        Args:
            args: from Triton: ``model_name``, ``model_config`` as JSON, ``model_repository`` (the model's own folder)
                and ``model_version``.
        """
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        expected = os.environ.get(PYTHON_VERSION, sys.version)
        if sys.version != expected:  # Triton's stub found another libpython than that of its packages
            raise RuntimeError(f"runs on Python {sys.version}, but the server was started for {expected}")
        folder = Path(args["model_repository"]) / args["model_version"]
        about = folder / ABOUT
        runtime = None
        if about.exists():
            metadata = ModelMetadata.from_text(about.read_text(encoding="utf-8"), about)
            runtime = runtime_of(_TritonSession(args["model_name"], metadata))
        self.service = open_service(folder, parameters, runtime)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton put into one batch."""
        files = [[row.tobytes() for row in _array(request, "image")] for request in requests]
        answers = iter(self.service.answer([file for own in files for file in own]))
        responses = []
        for request, own in zip(requests, files, strict=True):
            try:
                tensors = tensors_of(whole([next(answers) for _ in own]), request.requested_output_names())
            except InputError as error:
                refusal = triton.TritonError(" ".join(str(error).split()), triton.TritonError.INVALID_ARG)
                responses.append(triton.InferenceResponse(output_tensors=[], error=refusal))
            else:
                responses.append(triton.InferenceResponse([_tensor(name, array) for name, array in tensors.items()]))
        return responses


class _TritonSession:
    """A graph that Triton itself runs, ``NAME_graph``, as a session of a runtime.

    Args:
        name: NAME.
        metadata: of the exported model.
    """

    engine = "Triton's own"

    def __init__(self, name: str, metadata: ModelMetadata) -> None:
        assert metadata.exported is not None
        self.name, self.metadata = f"{name}_graph", metadata
        self.outputs = list(metadata.exported.outputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass.

        Raises:
            InputError: Triton gives no answer; the message is its own.
        """
        memory = triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU, 0)
        tensors = [_tensor(name, array) for name, array in inputs.items()]
        request = triton.InferenceRequest(
            model_name=self.name, inputs=tensors, requested_output_names=self.outputs, preferred_memory=memory
        )
        response = request.exec()
        if response.has_error():
            raise InputError(response.error().message())
        return {tensor.name(): np.from_dlpack(tensor).copy() for tensor in response.output_tensors()}


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
