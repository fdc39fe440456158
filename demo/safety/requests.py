"""What every request passes before Gradio sees it (pure ASGI, so bodies are streamed, not gathered)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from demo.safety.limits import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_POLICY = "; ".join(
    (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",  # Gradio's own page needs the unsafe ones
        "connect-src 'self' blob: data:",
        "frame-ancestors 'self'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"content-security-policy", _POLICY.encode()),
)


class _TooLarge(Exception):
    """A body went on beyond its limit."""


class SafeHeaders:
    """Adds headers that tell browsers to load nothing from elsewhere."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class BodyLimit:
    """Answers 413 to bodies over the limit, whether they say their length or just go on.

    Args:
        app: behind it.
        upload_bytes: of requests that upload files.
        request_bytes: of all others.
    """

    def __init__(self, app: App, upload_bytes: int, request_bytes: int) -> None:
        self.app, self.upload_bytes, self.request_bytes = app, upload_bytes, request_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.upload_bytes if scope["path"].rstrip("/").endswith("/upload") else self.request_bytes
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > most:
            await _refuse(send)
            return
        seen, answered = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal answered
            if seen > most and not answered:  # whatever the app makes of the broken body, the answer is 413
                raise _TooLarge
            answered = True
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except _TooLarge:
            if not answered:
                await _refuse(send)


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"request too large"})


def middlewares(limits: Limits, hosts: tuple[str, ...]) -> list[Middleware]:
    """All of them, the outermost first.

    Args:
        limits: of bodies.
        hosts: the names by which the page may be called; any other is answered by 400.
    """
    return [
        Middleware(SafeHeaders),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        Middleware(BodyLimit, upload_bytes=limits.upload_bytes, request_bytes=limits.request_bytes),
    ]
