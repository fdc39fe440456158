"""A measurement as ``results/`` keeps it: what, by which command, when, on what."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from backbones.running.atomic_write import write_json
from backbones.running.environment import describe_environment


def write_measurement(path: Path, what: str, results: Any) -> None:
    """Write a JSON file; the command is the running one."""
    about = {"what": what, "command": shlex.join(["python", *sys.argv]), "date": time.strftime("%Y-%m-%d")}
    write_json(path, {**about, "environment": describe_environment(), "results": results})
