#!/usr/bin/env python
"""Serve exported models: by Triton where it is installed, else by a small server of the same protocol."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.running.command_line import run_command
from deploy.serve_options import ServeOptions

EXAMPLES = (
    "python deploy/serve.py --model runs/own/model.onnx",
    "curl --data-binary @picture.jpg 'http://127.0.0.1:8000/predict/own'",
    "python deploy/serve.py --repository repository --model-control explicit --admin-key-file key.txt",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve until SIGTERM or Ctrl-C."""
    return run_command(
        ServeOptions, "deploy.serving.launching:serve", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
