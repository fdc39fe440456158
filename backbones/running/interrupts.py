"""Ctrl-C and SIGTERM as a question that a loop asks between steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noticing_interrupts() -> Iterator[Callable[[], bool]]:
    """Yield ``interrupted()``. The first signal is noted; a second Ctrl-C ends the process at once."""
    noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        noted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            previous[number] = signal.signal(number, note)
        except ValueError:  # not in the main thread: somebody else handles signals
            continue
    try:
        yield lambda: noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
