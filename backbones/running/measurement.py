"""A measurement as ``results/`` keeps it: what, by which command, when, on what."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from backbones.running.atomic_write import write_json
from backbones.running.environment import describe_environment

SMALL = "small: never beside the paper's numbers"
"""What ``scale`` says of results on data that is not the paper's."""


def write_measurement(path: str | Path, what: str, results: Any, command: str = "", **more: Any) -> None:
    """Write a JSON file.

    Args:
        path: where to.
        what: was measured.
        results: plain values.
        command: that measured it; the running one unless given.
        more: further facts, such as ``scale``, ``settings`` or ``target``.
    """
    about = {
        "what": what,
        "command": command or shlex.join(["python", *sys.argv]),
        **more,
        "date": time.strftime("%Y-%m-%d"),
        "environment": describe_environment(),
        "results": results,
    }
    write_json(Path(path), about)
