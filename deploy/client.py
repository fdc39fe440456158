#!/usr/bin/env python
"""Ask a server of deploy/serve.py, or Triton: one line of JSON for each picture.

From Python: ``Client(url).predict(picture)``, or of several; ``AsyncClient`` for asyncio.
"""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from backbones.running.command_line import CommandOptions, option, run_command

if TYPE_CHECKING:
    from deploy.serving.connection import AsyncClient as AsyncClient
    from deploy.serving.connection import Client as Client
    from deploy.serving.connection import ServerError as ServerError

EXAMPLES = (
    "python deploy/client.py picture.jpg",
    "python deploy/client.py --url grpc://127.0.0.1:8001 --model cells --threshold 0.3 pictures/*.jpg",
)
_TITLES = {"detection": "detections", "classification": "classes", "segmentation": "segments"}


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

    def __post_init__(self) -> None:
        if self.top < 1:
            raise InputError(f"--top {self.top}: at least 1")


def __getattr__(name: str) -> Any:  # so that --help imports nothing
    if name not in ("Client", "AsyncClient", "ServerError"):
        raise AttributeError(f"module 'deploy.client' has no attribute {name!r}")
    return getattr(import_module("deploy.serving.connection"), name)


def ask(options: ClientOptions) -> None:
    """Print, for each picture, one line of JSON with what the server finds in it.

    Raises:
        InputError: the server does not answer; or, after the others are answered, pictures were refused.
    """
    import asyncio  # like the rest, late: --help needs none of it

    from deploy.serving.connection import ServerError
    from detection.prediction.sources import find_sources

    if not options.images:
        raise InputError("give pictures: python deploy/client.py picture.jpg")
    sources, faults = find_sources(options.images, None, Path(os.devnull))  # nothing is written
    faults += [InputError(f"{source.path}: a video; give pictures") for source in sources if source.is_video]
    pictures = [source.path for source in sources if not source.is_video]
    for fault in faults:
        _name(fault)
    try:
        refused = asyncio.run(_ask(options, pictures)) + len(faults)
    except ServerError as error:
        raise InputError(str(error)) from error
    if refused:
        raise InputError(f"{refused} of the pictures could not be read or were refused; the others are answered")


async def _ask(options: ClientOptions, pictures: Sequence[Path]) -> int:
    """Answer in the order of the pictures; how many were refused."""
    import asyncio

    from deploy.serving.connection import AsyncClient
    from deploy.serving.service import as_json, least_scores

    async with AsyncClient(options.url, options.model, options.concurrency, options.timeout) as client:
        about = await client.about()
        least_scores(about, options.threshold)
        everything = 0.0 if about.task == "detection" else None

        async def look(picture: Path) -> Any:
            try:
                return await client.predict(picture, everything)
            except InputError as error:
                return error

        refused = 0
        waiting = [(picture, asyncio.ensure_future(look(picture))) for picture in pictures]
        try:
            for picture, looked in waiting:
                found = await looked
                if isinstance(found, InputError):
                    _name(found)
                    refused += 1
                    continue
                listed = as_json(found, about, options.threshold, options.top)
                print(json.dumps({"image": str(picture), _TITLES[about.task]: listed}), flush=True)
        finally:  # the server failed, or nobody reads on
            for _, looked in waiting:
                looked.cancel()
            await asyncio.gather(*(looked for _, looked in waiting), return_exceptions=True)
        return refused


def _name(fault: InputError) -> None:
    print(f"error: {' '.join(str(fault).split())}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, ask, and print."""
    return run_command(ClientOptions, ask, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
