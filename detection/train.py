#!/usr/bin/env python
"""Train a detector or a segmenter on COCO, VOC, your own photographs, or the built-in digits."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.running.command_line import run_command
from detection.training.options import TrainingOptions

EXAMPLES = (
    "python detection/train.py --backbone resnet101 --dataset coco                  # the paper's, on COCO 2017",
    "python detection/train.py --dataset voc:my/VOC --recipe quick                  # a few hundred photographs",
    "python detection/train.py --dataset voc:my/VOC --recipe quick --init-from runs/coco-resnet101",
    "torchrun --nproc-per-node 8 detection/train.py --backbone resnet50_v15 --dataset coco --recipe 1x --masks",
    "python detection/train.py --head fcn --dataset voc:my/VOC --recipe quick       # a class for every pixel",
    "python detection/train.py --resume runs/voc-resnet50_v15",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    return run_command(
        TrainingOptions, "detection.training.run:train", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
