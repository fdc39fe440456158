"""A long loop says how far it is, now and then, where there is no terminal to draw a bar on."""

from __future__ import annotations

import time
from collections.abc import Callable

from backbones.running.progress import Progress

REPORT_EVERY = 20.0
"""Seconds between two log lines."""


def advance_and_report(bar: Progress, what: str) -> Callable[[int], None]:
    """A function that counts steps of ``bar``, and says every few seconds how it goes; ``what`` is counted."""
    reported = time.monotonic()

    def advance(steps: int) -> None:
        nonlocal reported
        bar.advance(steps)
        if steps and time.monotonic() - reported > REPORT_EVERY:
            bar.report(what)
            reported = time.monotonic()

    return advance
