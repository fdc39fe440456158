"""A function in a process of its own, which ends at its limit with everything that it started."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.running.command_line import INTERRUPTED, Interrupted

DONE, FAILED, TIMEOUT, SKIPPED = "done", "failed", "timeout", "skipped"
GRACE = 10.0
"""Seconds in which a process that can go on another day writes its state."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its status, the seconds that it took, and the last line of its log."""

    status: str
    seconds: float
    message: str


def run_apart(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    log: Path,
    limit: float,
    *,
    asked_first: bool = False,
    method: str = "fork",
) -> Outcome:
    """Run a function apart and wait for it.

    Args:
        function, arguments: what to run; its exception is its failure.
        log: gets what it prints, behind what is there.
        limit: seconds until it is ended.
        asked_first: ask by SIGTERM, ``GRACE`` seconds before the limit, and kill at the limit.
        method: ``fork``, which takes over all that is imported, or ``spawn``. A process that used a GPU must not fork.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    process = multiprocessing.get_context(method).Process(target=_run, args=(function, arguments, log))
    process.start()
    try:
        process.join(max(limit - GRACE, 0.6 * limit) if asked_first else limit)
        late = process.is_alive()
        if late and asked_first:
            process.terminate()
            process.join(max(0.0, begun + limit - time.monotonic()))
    finally:
        _end(process)
    seconds = time.monotonic() - begun
    if process.exitcode == 0:
        return Outcome(DONE, seconds, last_line(log))
    if late or process.exitcode == INTERRUPTED:
        return Outcome(TIMEOUT, seconds, last_line(log))
    reason = last_line(log) if process.exitcode > 0 else f"ended by signal {-process.exitcode}: {last_line(log)}"
    return Outcome(FAILED, seconds, reason)


def _end(process: Any) -> None:
    """Nothing of the process and its children stays, whether it ended or not."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet, or nothing is left of it
        process.kill()
    process.join()


def _run(function: Callable[..., None], arguments: tuple[Any, ...], log: Path) -> None:
    """In the new process."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with log.open("ab", buffering=0) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    code = 0
    try:
        function(*arguments)
    except Interrupted as stop:
        print(f"stopped, and goes on another time ({stop})")
        code = INTERRUPTED
    except BaseException as error:  # whatever it is, it ends this process only
        traceback.print_exc()
        print(f"{type(error).__name__}: {' '.join(str(error).split())}")
        code = 1
    sys.stdout.flush()
    os._exit(code)  # not the parent's clean-up, of which this process has a copy


def last_line(log: Path) -> str:
    """The last line of a log that says something, without control characters."""
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 4096))
        lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
    return "".join(letter for letter in lines[-1] if letter.isprintable())[:200] if lines else ""
