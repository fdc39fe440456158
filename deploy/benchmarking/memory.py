"""Memory of a model in a process of its own: ``python -m deploy.benchmarking.memory`` with what to load, as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CALLS = 3
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Memory:
    """Resident memory in MiB.

    Attributes:
        before: of a process with numpy and our code, before the engine.
        loaded: with the model.
        peak: the most that it ever had, prediction included.
    """

    before: float
    loaded: float
    peak: float


def measure_memory(
    model: str, engine: str, batch: int, size: tuple[int, int], images: str | None, threads: int | None,
    hint: str = "latency",
) -> Memory | None:  # fmt: skip
    """Of a few batches in a new process; None where the system does not tell, or the process fails."""
    if not _STATUS.is_file():
        return None
    asked = {"model": os.path.abspath(model), "engine": engine, "batch": batch, "size": list(size), "threads": threads}
    asked["hint"] = hint
    asked["images"] = os.path.abspath(images) if images else None
    paths = os.pathsep.join([str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    run = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(asked)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    if run.returncode:
        return None
    return Memory(**json.loads(run.stdout.splitlines()[-1]))


def _measure(asked: dict[str, Any]) -> Memory:
    from deploy.benchmarking.subjects import make_images, open_subject

    before = _resident("VmRSS")
    subject = open_subject(asked["model"], asked["engine"], asked["threads"], asked["hint"])
    height, width = asked["size"]
    loaded = _resident("VmRSS")
    call = subject.call(make_images(asked["batch"], (height, width), asked["images"]))
    for _ in range(CALLS):
        call()
    return Memory(before, loaded, _resident("VmHWM"))


def _resident(name: str) -> float:
    """A line of the process's status. ``ru_maxrss`` would also hold what the parent had when it forked."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
    return round(int(lines[name].split()[0]) / 1024, 1)


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(json.loads(sys.argv[1])))))
