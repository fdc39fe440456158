"""What the world reaches: routes, limits, keys and the way out. Behind it stands Triton or the built-in server.

A request is refused here, before it costs anything, if its body is too large (413), too slow (408), or if too many
wait already (503): Triton itself has no limit of bodies, and its queue limits stall its batcher.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from backbones.errors import InputError
from deploy.serving.configuration import texts_of
from deploy.serving.protocol import HEADER_LENGTH, Reply
from deploy.serving.repository_files import check_repository
from deploy.serving.service import About, as_json, least_scores

ADMIN_HEADER = "admin-key"
_READ_SECONDS = 30.0
"""A body that takes longer to arrive is refused."""
_MODEL = r"/v2/models/[\w.-]+(?:/versions/\d+)?"
_READABLE = re.compile(rf"/v2|/v2/health/(?:live|ready)|{_MODEL}|{_MODEL}/(?:ready|config|stats)")
_MANAGEMENT = re.compile(r"/v2/repository/(?:index|models/[\w.-]+/(?:load|unload))")


class Engine(Protocol):
    """What computes answers: Triton, or the built-in server."""

    name: str

    async def open(self) -> None: ...

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply: ...

    async def predict(self, name: str, file: bytes, reply: Callable[[Any], Reply]) -> Reply:
        """A model's answer to one picture; ``reply`` makes it of what is found."""
        ...

    async def metrics(self) -> str: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        body: bytes of one request.
        queue: requests at once, those that wait included.
    """

    body: int = 16_000_000
    queue: int = 64


class Front:
    """The routes of a server.

    Args:
        engine: what answers.
        repository: the folder of its models.
        limits: what it takes.
        admin_key: opens loading and unloading; None refuses them.
    """

    def __init__(self, engine: Engine, repository: Path, limits: Limits, admin_key: str | None = None) -> None:
        self.engine, self.repository, self.limits, self.admin_key = engine, repository, limits, admin_key
        self.draining = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._codes: Counter[int] = Counter()
        self._served = self._check()

    def app(self) -> web.Application:
        """The application, for ``aiohttp.web`` to run."""
        app = web.Application(client_max_size=self.limits.body)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/models", self._models)
        app.router.add_post("/predict/{model}", self._predict)
        app.router.add_post(r"/v2/models/{rest:[\w./-]+}/infer", self._infer)
        app.router.add_route("*", "/v2{rest:.*}", self._other)
        return app

    async def drain(self, seconds: float) -> None:
        """Take no more, and wait for what is in flight."""
        self.draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return

    async def _infer(self, request: web.Request) -> web.Response:
        async def answer(body: bytes) -> Reply:
            headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
            if request.content_type.startswith("image/"):  # a picture as it is: the protocol's raw binary request
                headers[HEADER_LENGTH] = "0"
            return await self.engine.ask("POST", request.path, headers, body)

        return await self._limited(request, answer)

    async def _predict(self, request: web.Request) -> web.Response:
        """A picture's bytes in, a list of what is found out: no protocol, for people and ``curl``."""
        name = request.match_info["model"]
        about = self._served.get(name)
        if about is None:
            return self._respond(Reply.error(404, f"no model {name!r}; GET /models lists them"))

        async def answer(body: bytes) -> Reply:
            try:
                threshold = _threshold(request.query.getall("threshold", []), set(request.query) - {"threshold"})
                least_scores(about, threshold)
            except InputError as error:
                return Reply.error(400, str(error))
            return await self.engine.predict(name, body, lambda found: Reply.of(200, as_json(found, about, threshold)))

        return await self._limited(request, answer)

    async def _limited(self, request: web.Request, answer: Any) -> web.Response:
        if self.draining:
            return self._respond(Reply.error(503, "the server is stopping"))
        if (request.content_length or 0) > self.limits.body:
            return self._respond(Reply.error(413, f"more than {self.limits.body} bytes"))
        if self.in_flight >= self.limits.queue:
            return self._respond(Reply.error(503, f"{self.in_flight} requests wait already; try again"))
        self.in_flight += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(_READ_SECONDS):
                body = await request.read()
            if not body:
                return self._respond(Reply.error(400, "the request is empty"))
            return self._respond(await answer(body))
        except web.HTTPRequestEntityTooLarge:
            return self._respond(Reply.error(413, f"more than {self.limits.body} bytes"))
        except TimeoutError:
            return self._respond(Reply.error(408, f"the request took more than {_READ_SECONDS:.0f} s to arrive"))
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    async def _other(self, request: web.Request) -> web.Response:
        path = request.path
        if _MANAGEMENT.fullmatch(path):
            return self._respond(await self._manage(request))
        if request.method not in ("GET", "HEAD") or not _READABLE.fullmatch(path):
            return self._respond(Reply.error(404, f"no {request.method} {path} here"))
        if self.draining and path == "/v2/health/ready":
            return self._respond(Reply.error(503, "the server is stopping"))
        return self._respond(await self.engine.ask("GET", path, {}, b""))

    async def _manage(self, request: web.Request) -> Reply:
        if self.admin_key is None:
            return Reply.error(403, "models are fixed; start the server with --model-control explicit to change them")
        given = request.headers.get(ADMIN_HEADER, "")
        if not hmac.compare_digest(given.encode(), self.admin_key.encode()):
            return Reply.error(403, f"needs the header {ADMIN_HEADER}")
        if await request.read() not in (b"", b"{}"):
            return Reply.error(400, "parameters are not taken: a model's files and configuration lie in the repository")
        try:
            self._served = self._check()
        except InputError as error:
            return Reply.error(400, str(error))
        return await self.engine.ask("POST", request.path, {}, b"{}")

    async def _models(self, request: web.Request) -> web.Response:
        return self._respond(Reply.of(200, [{"name": name, **vars(about)} for name, about in self._served.items()]))

    async def _metrics(self, request: web.Request) -> web.Response:
        lines = [
            "# HELP shortcut_in_flight Requests that have arrived and are not answered.",
            "# TYPE shortcut_in_flight gauge",
            f"shortcut_in_flight {self.in_flight}",
            "# HELP shortcut_responses_total Answers by status.",
            "# TYPE shortcut_responses_total counter",
            *(f'shortcut_responses_total{{code="{code}"}} {count}' for code, count in sorted(self._codes.items())),
        ]
        text = await self.engine.metrics() + "\n".join(lines) + "\n"
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _check(self) -> dict[str, About]:
        """The served models, of a repository that is admitted."""
        texts = {name: texts_of(config) for name, config in check_repository(self.repository).items()}
        return {name: About.from_texts(own) for name, own in texts.items() if "task" in own}

    def _respond(self, reply: Reply) -> web.Response:
        self._codes[reply.status] += 1
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


_FORWARDED = ("Content-Type", HEADER_LENGTH)


def _threshold(given: list[str], others: set[str]) -> float | None:
    if others:
        raise InputError(f"{min(others)}: /predict takes the parameter threshold only")
    if len(given) > 1:
        raise InputError(f"threshold: given {len(given)} times")
    try:
        return float(given[0]) if given else None
    except ValueError:
        raise InputError(f"threshold {given[0]}: a number from 0 to 1") from None
