"""ONNX Runtime: the reference engine."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.metadata import KEY, ModelMetadata, read_exported
from deploy.runtimes.session import shapes_of


class OnnxSession:
    """One loaded file: named arrays in, named arrays out.

    Args:
        path: the ``.onnx`` file.
        threads: processor threads; by default as many as there are cores.

    Raises:
        InputError: the file is missing, damaged, or has no metadata of ours.
    """

    engine = f"ONNX Runtime {onnxruntime.__version__}"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=_providers())
        except Exception as error:  # ONNX Runtime's own exception classes are private
            raise InputError(f"{path}: ONNX Runtime cannot load it ({' '.join(str(error).split())[:200]})") from error
        if self._session.get_providers()[0].startswith("CUDA"):
            self.engine = f"{self.engine} (CUDA)"
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        self.metadata: ModelMetadata = read_exported(text, path)
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass.

        Raises:
            InputError: the file does not take inputs of these shapes.
        """
        try:
            values = self._session.run(None, dict(inputs))
        except Exception as error:  # ONNX Runtime's own exception classes are private
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.engine} refuses {shapes_of(inputs)}: {reason}") from error
        return dict(zip(self.outputs, (np.asarray(value) for value in values), strict=True))


def _providers() -> list[str]:
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        available = onnxruntime.get_available_providers()
    return [provider for provider in wanted if provider in available]
