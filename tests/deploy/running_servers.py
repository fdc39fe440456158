"""A server as a user starts it, in its own process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.serving.installation import find_triton
from tests.conftest import ROOT

SERVERS = ("builtin", pytest.param("triton", marks=pytest.mark.triton))


def need_triton() -> None:
    """Skip where no Triton is."""
    if find_triton(None) is None:
        pytest.skip("needs tritonserver: $TRITON_DIR, the nvidia-pytriton wheel, or one on the path")


@dataclass
class RunningServer:
    """``deploy/serve.py`` with arguments; a context that stops it."""

    kind: str
    arguments: list[object]
    url: str = ""
    grpc: str = ""
    lines: list[str] = field(default_factory=list)

    def __enter__(self) -> RunningServer:
        command = [sys.executable, ROOT / "deploy/serve.py", "--server", self.kind, "--port", 0, "--grpc-port", 0]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            list(map(str, [*command, *self.arguments])), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r" at (http://\S+)", line):
                self.url = found[1]
            if found := re.search(r"gRPC at (\S+)", line):
                self.grpc = f"grpc://{found[1]}"
            if "try:" in line:
                return self
        raise AssertionError("".join(self.lines))

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        finally:
            self.process.kill()

    def ask(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON (or text) of an answer."""
        request = urllib.request.Request(self.url + path, data=body, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _value(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _value(error.read())

    def in_flight(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        until = time.monotonic() + 30
        while f"shortcut_in_flight {count}" not in self.ask("/metrics")[1]:
            assert time.monotonic() < until
            time.sleep(0.02)


def start(kind: str, folder: Path, *arguments: object) -> RunningServer:
    """A server of a repository or of models."""
    if kind == "triton":
        need_triton()
    source = "--repository" if folder.is_dir() else "--model"
    return RunningServer(kind, [source, folder, *arguments])


def _value(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")
