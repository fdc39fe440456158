"""The page as an operator starts it, in its own process, and requests as browsers and attackers send them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import ROOT


@dataclass
class RunningPage:
    """``demo/app.py`` with arguments; a context that stops it.

    Attributes:
        arguments: of the command.
        url: once it runs.
        folder: its parent for temporary files.
        lines: what it said.
    """

    arguments: list[object]
    folder: Path
    url: str = ""
    lines: list[str] = field(default_factory=list)

    def __enter__(self) -> RunningPage:
        command = [sys.executable, ROOT / "demo/app.py", "--port", 0, *self.arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.folder)}
        self.process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"page is at (http://\S+)", line):
                self.url = found[1]
                return self
        raise AssertionError("".join(self.lines))

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            _, rest = self.process.communicate(timeout=60)
            self.lines += rest.splitlines(keepends=True)
        finally:
            self.process.kill()

    def temporary_files(self) -> list[Path]:
        """What the page keeps of uploads and results, but for the examples."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return [path for path in files if not re.fullmatch(r"(scene|digit)-\d+\.png", path.name)]

    def upload(self, data: bytes, name: str = "picture.png") -> httpx.Response:
        """Send a file as browsers do."""
        return httpx.post(f"{self.url}/gradio_api/upload", files={"files": (name, data)}, timeout=60)

    def detect(self, file: Any, threshold: float = 0.05) -> tuple[str, Any]:
        """Call ``/detect`` with whatever stands in place of a file: (event, data) of the answer's end."""
        return self.call("detect", [file, "detector", threshold, "", False, True])

    def call(self, name: str, values: list[Any]) -> tuple[str, Any]:
        """Call an endpoint: (event, data) of the answer's end."""
        begun = httpx.post(f"{self.url}/gradio_api/call/{name}", json={"data": values}, timeout=60)
        if begun.status_code != 200:
            return f"status {begun.status_code}", begun.text
        answer = httpx.get(f"{self.url}/gradio_api/call/{name}/{begun.json()['event_id']}", timeout=60)
        events = re.findall(r"event: (\w+)\ndata: (.*)", answer.text)
        return events[-1][0], json.loads(events[-1][1])


def uploaded(path: str, name: str = "picture.png") -> dict[str, Any]:
    """How a client names an uploaded file."""
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
