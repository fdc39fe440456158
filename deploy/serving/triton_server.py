"""The real Triton behind the front: a child process, on loopback only, which gets requests as they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from backbones.errors import InputError
from deploy.serving.installation import Installation, environment, prepare_backends
from deploy.serving.protocol import HEADER_LENGTH, Reply, read_reply
from deploy.serving.service import found_in

logger = logging.getLogger("shortcut")

LOOPBACK = "127.0.0.1"
KEY_HEADER = "admin-key"
_PROJECT = Path(__file__).resolve().parents[2]
_RESTRICTED = "model-repository,shared-memory,trace,logging"
_HARMLESS = re.compile(r"cuda|nvml|dcgm|pinned memory|gpu", re.IGNORECASE)
_START = 120.0
"""Seconds that loading the models may take."""
_REASON = re.compile(r"(?:failed to load '[^']*' version \d+: |Poll failed for model directory |error: )(.*)")
_KEPT = ("Content-Type", HEADER_LENGTH)
_UNREADABLE = b"arse"
"""Triton answers 500 to "Unable to parse" and "failed to parse", although the request is at fault."""
_DEAD = b"is not healthy"


class TritonProcess:
    """A running tritonserver. Its HTTP and metrics ports are private: ``front.py`` stands before them.

    Args:
        installation: from ``find_triton``.
        repository: a folder that ``check_repository`` admits.
        grpc_port: for gRPC clients of this machine.
        explicit: models may be loaded and unloaded while it runs.
        exit_timeout: seconds that requests have to finish when it stops.
    """

    def __init__(
        self, installation: Installation, repository: Path, grpc_port: int, explicit: bool, exit_timeout: int = 30
    ) -> None:
        self.installation, self.repository, self.grpc_port = installation, repository, grpc_port
        self.explicit, self.exit_timeout = explicit, exit_timeout
        self.http_port, self.metrics_port = free_port(), free_port()
        self.key = secrets.token_urlsafe(32)
        """Opens the restricted interfaces; known to this process and its front only."""
        self._folder = Path(tempfile.mkdtemp(prefix="triton-"))
        self.log: deque[str] = deque(maxlen=200)
        """Its last lines."""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until all models are loaded.

        Raises:
            InputError: a model cannot be loaded; the message gives Triton's reason.
        """
        command = self.command(prepare_backends(self.installation, self._folder / "backends"))
        self._process = subprocess.Popen(
            command, env=environment(self.installation, _PROJECT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,  # Ctrl-C reaches this process alone, which stops it
        )  # fmt: skip
        reader = threading.Thread(target=self._read_log, daemon=True)
        reader.start()
        until = time.monotonic() + _START
        while not self.ready():
            if self.ended():
                reader.join(5)
                raise InputError(f"tritonserver stopped: {self.reason()}")
            if time.monotonic() > until:
                self.stop()
                raise InputError(f"tritonserver has not loaded its models within {_START:.0f} s: {self.reason()}")
            time.sleep(0.1)

    def command(self, backends: Path) -> list[str]:
        """The command line."""
        executable = self.installation.executable
        if not executable.stat().st_mode & 0o100:  # unpacked by a tool that keeps no permissions
            executable = Path(shutil.copy(executable, self._folder / "tritonserver"))
            executable.chmod(0o755)
        caches = self.installation.backends.parent / "caches"
        flags = {
            "model-repository": self.repository, "backend-directory": backends, "cache-directory": caches,
            "http-address": LOOPBACK, "http-port": self.http_port,
            "grpc-address": LOOPBACK, "grpc-port": self.grpc_port,
            "metrics-address": LOOPBACK, "metrics-port": self.metrics_port,
            "http-restricted-api": f"{_RESTRICTED}:{KEY_HEADER}={self.key}",
            "grpc-restricted-protocol": f"{_RESTRICTED}:{KEY_HEADER}={self.key}",
            "model-control-mode": "explicit" if self.explicit else "none",
            "strict-readiness": "true", "exit-on-error": "true", "exit-timeout-secs": self.exit_timeout,
            "allow-gpu-metrics": "false", "log-info": "true",
        }  # fmt: skip
        command = [str(executable), *(f"--{name}={value}" for name, value in flags.items())]
        return [*command, "--disable-auto-complete-config", *(["--load-model=*"] if self.explicit else [])]

    def ready(self) -> bool:
        """Whether it answers and every model is loaded."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.http_port}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def ended(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process is None or self._process.poll() is not None

    def reason(self) -> str:
        """What its log says of its end."""
        found = [match[1] for line in self.log if (match := _REASON.search(line))]
        return found[0] if found else (self.log[-1] if self.log else "it said nothing")

    def stop(self) -> None:
        """Let requests finish, end the process, and remove its temporary files."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.exit_timeout + 10)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read_log(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line.rstrip())
            if line.startswith(("E", "W")) and not _HARMLESS.search(line):
                logger.warning("triton: %s", line.rstrip())


class TritonEngine:
    """Answers from a Triton process.

    Args:
        process: not yet started.
    """

    name = "Triton"

    def __init__(self, process: TritonProcess) -> None:
        self.process = process
        self.broken = False
        """A model's process has died; Triton itself goes on saying that it is ready."""
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Start Triton and wait for its models.

        Raises:
            InputError: a model cannot be loaded.
        """
        await asyncio.to_thread(self.process.start)
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request of the protocol."""
        if self.broken and path == "/v2/health/ready":
            return Reply.error(503, "a model's process has died; start the server again")
        key = {KEY_HEADER: self.process.key} if path.startswith("/v2/repository/") else {}
        reply = await self._fetch(method, self.process.http_port, path, {**headers, **key}, body)
        if reply.status == 500 and _UNREADABLE in reply.body:
            return Reply(400, reply.body, reply.headers)
        if reply.status == 500 and _DEAD in reply.body and not self.broken:
            self.broken = True
            logger.error("a model's process has died; start the server again (%s)", reply.body.decode(errors="replace"))
        return reply

    async def predict(self, name: str, file: bytes, reply: Callable[[Any], Reply]) -> Reply:
        """One picture, by the protocol's raw binary request."""
        answer = await self.ask("POST", f"/v2/models/{name}/infer", {HEADER_LENGTH: "0"}, file)
        if answer.status != 200:
            return answer
        return await asyncio.to_thread(lambda: reply(found_in(read_reply(answer))))

    async def metrics(self) -> str:
        """Triton's own metrics."""
        reply = await self._fetch("GET", self.process.metrics_port, "/metrics", {}, b"")
        return reply.body.decode()

    async def close(self) -> None:
        """Stop Triton."""
        if self._session is not None:
            await self._session.close()
        await asyncio.to_thread(self.process.stop)

    async def _fetch(self, method: str, port: int, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        assert self._session is not None
        url = URL.build(scheme="http", host=LOOPBACK, port=port, path=path)
        try:
            async with self._session.request(method, url, headers=headers, data=body or None) as answer:
                kept = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
                return Reply(answer.status, await answer.read(), kept)
        except aiohttp.ClientError as error:
            return Reply.error(503, f"Triton does not answer ({error})")

    async def watch(self) -> None:
        """Return when Triton ends by itself.

        Raises:
            InputError: with its reason.
        """
        while not self.process.ended():
            await asyncio.sleep(0.5)
        raise InputError(f"tritonserver stopped: {self.process.reason()}")


def free_port() -> int:
    """A port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
