#!/usr/bin/env python
"""Export a trained model to ONNX or TensorRT with a dynamic batch, and verify it against the model on real pictures.

The file appears only if every engine that runs it here agrees with the trained model; the numbers stand in the .json
beside it.
"""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.running.command_line import run_command
from deploy.export_options import ExportOptions

EXAMPLES = (
    "python deploy/export.py --model runs/digits-resnet20 --format onnx",
    "python deploy/export.py --model runs/mine --precision int8 --dataset voc:my/VOC --split val",
    "python deploy/export.py --model runs/mine --flavour portable --precision bf16 --proposals 300",
    "python deploy/export.py --model resnet18.pth --arch resnet18 --output resnet18.onnx",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and export."""
    return run_command(
        ExportOptions, "deploy.exporting:export", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
