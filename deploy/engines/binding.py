"""NVIDIA's Python bindings: full TensorRT, or TensorRT-RTX, which offers the same calls."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from backbones.errors import InputError
from backbones.extras import install

FULL, RTX = "tensorrt", "tensorrt_rtx"
LIBRARIES = (FULL, RTX)
TITLES = {FULL: "TensorRT", RTX: "TensorRT-RTX"}
INSTALL = f"{install('tensorrt')} where there is a GPU, or {install('tensorrt-rtx')}, which builds without one"


def import_trt(library: str | None = None) -> ModuleType:
    """The bindings that are installed; full TensorRT first.

    Args:
        library: ``tensorrt`` or ``tensorrt_rtx``, where only that one will do.

    Raises:
        InputError: none is installed, or one is and cannot be loaded.
    """
    wanted = (library,) if library else LIBRARIES
    for name in wanted:
        if find_spec(name) is None:
            continue
        try:
            return import_module(name)
        except (ImportError, OSError, RuntimeError) as error:  # its shared libraries are missing or of another version
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{TITLES[name]} is installed but cannot be loaded ({reason}); reinstall it") from error
    names = " or ".join(TITLES[name] for name in wanted)
    raise InputError(f"needs {names}, which is not installed: {INSTALL}")
