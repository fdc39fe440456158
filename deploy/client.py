#!/usr/bin/env python
"""Ask a server of deploy/serve.py, or Triton: one line of JSON for each picture.

From Python: ``Client(url).predict(picture)``, or of several; ``AsyncClient`` for asyncio.
"""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from backbones.running.command_line import run_command
from deploy.client_options import ClientOptions

if TYPE_CHECKING:
    from deploy.serving.connection import AsyncClient as AsyncClient
    from deploy.serving.connection import Client as Client
    from deploy.serving.connection import ServerError as ServerError

EXAMPLES = (
    "python deploy/client.py picture.jpg",
    "python deploy/client.py --url grpc://127.0.0.1:8001 --model cells --threshold 0.3 pictures/*.jpg",
)


def __getattr__(name: str) -> Any:  # so that --help imports nothing
    if name not in ("Client", "AsyncClient", "ServerError"):
        raise AttributeError(f"module 'deploy.client' has no attribute {name!r}")
    return getattr(import_module("deploy.serving.connection"), name)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, ask, and print."""
    return run_command(
        ClientOptions, "deploy.serving.asking:ask", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
