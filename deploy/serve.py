#!/usr/bin/env python
"""Serve exported models: by Triton where it is installed, else by a small server of the same protocol."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass

from backbones.running.command_line import option, run_command
from deploy.serving.options import ServiceOptions

EXAMPLES = (
    "python deploy/serve.py --model runs/own/model.onnx",
    "curl --data-binary @picture.jpg 'http://127.0.0.1:8000/predict/own'",
    "python deploy/serve.py --repository repository --model-control explicit --admin-key-file key.txt",
)


@dataclass(frozen=True, kw_only=True)
class ServeOptions(ServiceOptions):
    """What to serve, and where."""

    repository: str | None = option(
        None, "a folder from deploy/repository.py, instead of --model", group="model", metavar="DIR"
    )
    host: str = option("127.0.0.1", "address of HTTP; gRPC stays on this machine", group="network")
    port: int = option(8000, "of HTTP; 0 takes a free one", group="network")
    grpc_port: int = option(8001, "of gRPC (Triton only); 0 takes a free one", group="network")
    max_body: float = option(16.0, "megabytes of one request at most; more is answered by 413", group="network")
    max_queue: int = option(64, "requests at once, waiting ones included; more are answered by 503", group="network")
    server: str = option(
        "auto", "auto is triton where it is installed, else builtin", group="server",
        choices=("auto", "triton", "builtin"),
    )  # fmt: skip
    triton: str | None = option(
        None, "an unpacked nvidia-pytriton wheel, or a folder like /opt/tritonserver", group="server", metavar="DIR",
        otherwise="$TRITON_DIR, the installed nvidia-pytriton, or tritonserver on the path",
    )  # fmt: skip
    model_control: str = option(
        "none", "explicit allows loading and unloading, by those who have the key", group="server",
        choices=("none", "explicit"),
    )  # fmt: skip
    admin_key_file: str | None = option(
        None, "holds the key (the header admin-key), at least 16 characters", group="server", metavar="FILE"
    )
    exit_timeout: int = option(30, "seconds that requests have to finish after SIGTERM", group="server")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve until SIGTERM or Ctrl-C."""
    return run_command(
        ServeOptions, "deploy.serving.launching:serve", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
