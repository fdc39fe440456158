"""The options of ``deploy/client.py``. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.running.command_line import CommandOptions, option


@dataclass(frozen=True, kw_only=True)
class ClientOptions(CommandOptions):
    """What to ask, and whom."""

    images: tuple[str, ...] = option(
        (), "picture files, folders or patterns", group="input", positional=True, metavar="PICTURE"
    )
    url: str = option("http://127.0.0.1:8000", "http://HOST:PORT or grpc://HOST:PORT", group="server")
    model: str | None = option(None, "the served model's name", group="server", otherwise="the only one")
    concurrency: int = option(8, "pictures on their way at once", group="server")
    timeout: float = option(60.0, "seconds for one picture", group="server")
    threshold: float | None = option(
        None, "show what scores at least so much; 0 shows everything", group="output",
        otherwise="of detectors the model's own for each class, or 0.5",
    )  # fmt: skip
    top: int = option(5, "classes of a picture to show", group="output")
