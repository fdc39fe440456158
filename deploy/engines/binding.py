"""NVIDIA's Python bindings: full TensorRT, or TensorRT-RTX, which offers the same calls; and what they say.

Their errors are kept for our one line, the rest goes to the debug log.
"""

from __future__ import annotations

import logging
import re
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from backbones.errors import InputError
from backbones.extras import install

logger = logging.getLogger("shortcut")

FULL, RTX = "tensorrt", "tensorrt_rtx"
LIBRARIES = (FULL, RTX)
TITLES = {FULL: "TensorRT", RTX: "TensorRT-RTX"}
INSTALL = f"{install('tensorrt')} where there is a GPU, or {install('tensorrt-rtx')}, which builds without one"
_PLACE = re.compile(r"^\S+\.(cpp|h):\d+:\s*|\[\w+\.cpp::\w+::\d+\]\s*|^(IBuilder|IRuntime)::\w+: ")


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


def library_log(trt: Any) -> Any:
    """A logger for the bindings, with ``errors``: what went wrong so far, in TensorRT's words."""

    class LibraryLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            text = " ".join(msg.split())
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(text)
            if severity != trt.ILogger.VERBOSE:
                logger.debug("TensorRT: %s", text)

    return LibraryLog()


def said(errors: list[str], most: int = 300) -> str:
    """The last different errors as part of one line, without places in TensorRT's source."""
    texts = list(dict.fromkeys(_PLACE.sub("", text) for text in errors))
    return "; ".join(texts[-2:])[:most] or "it gave no reason"
