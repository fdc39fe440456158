"""Progress: a bar on a terminal, timestamped lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger("shortcut")


def _is_main() -> bool:
    """Without torch there is one process only; commands that need none do not import it for this."""
    if "torch" not in sys.modules:
        return True
    from backbones.running import distributed

    return distributed.is_main()


def start_logging(quiet: bool, file: Path | None = None) -> None:
    """Send the project's messages to standard error and, if given, to ``file``; only the main process speaks."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(logging.INFO if _is_main() else logging.ERROR)
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.WARNING if quiet else logging.INFO)
    console.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    logger.addHandler(console)
    if file is not None and _is_main():
        to_file = logging.FileHandler(file, encoding="utf-8")
        to_file.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(to_file)


class Progress:
    """Counts steps towards a total; ``report`` says how they go."""

    def __init__(self, label: str, total: int, done: int) -> None:
        self.label, self.total, self.done = label, total, done
        self._start, self._begun = done, time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """Count steps."""
        self.done += steps

    def report(self, text: str) -> None:
        """Say how it goes, with the time that is left."""
        logger.info("%s %d/%d  %s  %s left", self.label, self.done, self.total, text, self._remaining())

    def _remaining(self) -> str:
        passed = self.done - self._start
        if not passed:
            return "?"
        seconds = (time.monotonic() - self._begun) / passed * (self.total - self.done)
        return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"


class _BarProgress(Progress):
    def __init__(self, label: str, total: int, done: int) -> None:
        super().__init__(label, total, done)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"), console=Console(stderr=True),
        )  # fmt: skip
        self.task = self.bar.add_task(label, total=total, completed=done, text="")

    def advance(self, steps: int = 1) -> None:
        super().advance(steps)
        self.bar.advance(self.task, steps)

    def report(self, text: str) -> None:
        super().report(text)
        self.bar.update(self.task, text=text)


def advance_and_report(bar: Progress, what: str = "", every: float = 10.0) -> Callable[[int], None]:
    """A function that counts steps of ``bar``, and says now and then how it goes, where there is no terminal for a bar.

    Args:
        bar: from ``progress``.
        what: is counted; by default the rate is said.
        every: seconds between two log lines.
    """
    begun = said = time.monotonic()
    before = bar.done

    def advance(steps: int) -> None:
        nonlocal said
        bar.advance(steps)
        now = time.monotonic()
        if steps and now - said >= every:
            said = now
            bar.report(what or f"{(bar.done - before) / (now - begun):.1f} a second")

    return advance


@contextmanager
def progress(label: str, total: int, done: int = 0, quiet: bool = False) -> Iterator[Progress]:
    """A ``Progress`` for a loop: a live bar if standard error is a terminal and rich is installed, log lines if not."""
    if quiet or not sys.stderr.isatty() or not _is_main() or find_spec("rich") is None:
        yield Progress(label, total, done)
        return
    live = _BarProgress(label, total, done)
    consoles = [handler for handler in logger.handlers if not isinstance(handler, logging.FileHandler)]
    levels = [handler.level for handler in consoles]
    for handler in consoles:
        handler.setLevel(logging.WARNING)  # the bar says it; the log file still gets the lines
    try:
        with live.bar:
            yield live
    finally:
        for handler, level in zip(consoles, levels, strict=True):
            handler.setLevel(level)
