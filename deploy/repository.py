#!/usr/bin/env python
"""Write a Triton model repository: picture files in, what is found in them out."""

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
    "python deploy/repository.py --model runs/own/model.onnx --output repository",
    "python deploy/repository.py --model cells.onnx cats.onnx --max-batch-size 4 --output repository",
    "python deploy/repository.py --model cells.plan --version 2 --output repository",
)


@dataclass(frozen=True, kw_only=True)
class RepositoryOptions(ServiceOptions):
    """What to write, and where to."""

    version: int = option(1, "of the models; other versions that lie in the folder stay", group="model")
    plans: str | None = option(
        None, "what runs .plan files: Triton's TensorRT backend (in NVIDIA's container), or our runtime (python)",
        group="serving", choices=("tensorrt", "python"), otherwise="tensorrt",
    )  # fmt: skip
    output: str = option("", "the repository's folder", group="output", metavar="DIR")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write the repository."""
    return run_command(
        RepositoryOptions,
        "deploy.serving.repository_files:write",
        description=__doc__ or "",
        examples=EXAMPLES,
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
