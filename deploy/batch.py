#!/usr/bin/env python
"""Detect objects in very many pictures by Ray Data: parts in Parquet or JSONL, resumed where a run was stopped.

A picture that cannot be read takes a row with the reason; a run over the same folder goes on where one was killed.
"""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.running.command_line import run_command
from deploy.bulk.options import BulkOptions

EXAMPLES = (
    "python deploy/batch.py --model model.onnx photos/ --output found",
    "python deploy/batch.py --model model.onnx 'archive/**/*.jpg' --format jsonl --workers 8 --output found",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and predict."""
    return run_command(
        BulkOptions, "deploy.bulk.running:predict_in_bulk", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
