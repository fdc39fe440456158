"""Triton behind the front: requests go on to its private port as they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from yarl import URL

from backbones.errors import InputError
from deploy.serving.protocol import HEADER_LENGTH, Reply, read_reply
from deploy.serving.service import found_in
from deploy.serving.triton_process import KEY_HEADER, LOOPBACK, TritonProcess

logger = logging.getLogger("shortcut")

_KEPT = ("Content-Type", HEADER_LENGTH)
_UNREADABLE = b"arse"
"""Triton answers 500 to "Unable to parse" and "failed to parse", although the request is at fault."""
_DEAD = b"is not healthy"


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
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), headers={"Accept-Encoding": "identity"}
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
