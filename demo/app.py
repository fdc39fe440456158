#!/usr/bin/env python
"""A page in the browser: classes of pictures, and objects in pictures and short videos."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.running.command_line import run_command
from demo.app_options import PageOptions

EXAMPLES = (
    "python demo/app.py",
    "python demo/app.py --detector runs/own/model.onnx coco.safetensors --classifier runs/classifier",
    "python demo/app.py --detector http://127.0.0.1:8000/own --auth-file visitors.txt",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve the page until SIGTERM or Ctrl-C."""
    return run_command(
        PageOptions, "demo.launching:serve_page", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
