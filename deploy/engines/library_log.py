"""What TensorRT says while it works: its errors are kept for our one line, the rest goes to the debug log."""

from __future__ import annotations

import logging
import re
from typing import Any

logger = logging.getLogger("shortcut")

_PLACE = re.compile(r"^\S+\.(cpp|h):\d+:\s*|\[\w+\.cpp::\w+::\d+\]\s*|^(IBuilder|IRuntime)::\w+: ")


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
