#!/usr/bin/env python
"""Latency, throughput, memory and share of the machine's peak of models in their engines, all in one run.

Models and engines take turns, so that what else the machine does meets all of them; ratios are taken turn by turn.
"""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.running.command_line import run_command
from deploy.benchmarking.options import BenchmarkOptions

EXAMPLES = (
    "python deploy/benchmark.py --model model.onnx --engine openvino onnxruntime",
    "python deploy/benchmark.py --model int8.onnx fp32.onnx --against runs/digits-resnet20 --batch 1 8 --size 640 640",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and measure."""
    return run_command(
        BenchmarkOptions,
        "deploy.benchmarking.running:benchmark",
        description=__doc__ or "",
        examples=EXAMPLES,
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
