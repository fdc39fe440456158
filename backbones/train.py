#!/usr/bin/env python
"""Pretrain a network by the paper's recipes."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.pretraining.options import TrainingOptions
from backbones.running.command_line import run_command

EXAMPLES = (
    "python backbones/train.py --arch resnet20 --dataset digits --recipe quick",
    "python backbones/train.py --resume runs/digits-resnet20",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    return run_command(
        TrainingOptions, "backbones.pretraining.training:train", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
