"""The page's own folder for uploads and results, and what keeps it small."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER_VARIABLE = "GRADIO_TEMP_DIR"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder that Gradio keeps all its files in; it goes with the block."""
    with tempfile.TemporaryDirectory(prefix="shortcut-page-") as folder:
        before = os.environ.get(FOLDER_VARIABLE)
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ[FOLDER_VARIABLE]
            else:
                os.environ[FOLDER_VARIABLE] = before


def sweep(folder: Path, age: float, kept: frozenset[Path] = frozenset()) -> None:
    """Delete files older than ``age`` seconds, and empty folders as old; Gradio's own sweep leaves the folders, and
    uploads that it never finished.

    Args:
        folder: whose content is swept.
        age: seconds.
        kept: files that stay, such as the examples.
    """
    limit = time.time() - age
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(root, name)
            with suppress(OSError):  # another thread, or Gradio, was faster
                if path not in kept and path.lstat().st_ctime < limit:
                    path.unlink()
        with suppress(OSError):  # not empty, or just filled
            if Path(root) != folder and Path(root).lstat().st_ctime < limit:
                Path(root).rmdir()


@contextmanager
def swept(folder: Path, age: float) -> Iterator[None]:
    """Sweep a folder all the while, so that nothing lies there longer than 1.5 times ``age``; what lies there
    already stays."""
    kept = frozenset(path for path in folder.rglob("*") if path.is_file())
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(age / 4):
            sweep(folder, age, kept)

    thread = threading.Thread(target=work, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
