"""The form of the files in results/: what was measured, by which command, when and on what."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from backbones.running.atomic_write import write_json
from backbones.running.environment import describe_environment

SMALL = "small: never beside the paper's numbers"


def write_result(path: str | Path, *, what: str, results: dict[str, Any], command: str = "", **more: Any) -> None:
    """Write one measurement; ``command`` is the running one unless given."""
    about = {
        "what": what,
        "command": command or shlex.join(["python", *sys.argv]),
        **more,
        "date": time.strftime("%Y-%m-%d"),
        "environment": describe_environment(),
        "results": results,
    }
    write_json(Path(path), about)
