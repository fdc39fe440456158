#!/usr/bin/env python
"""Train a detector on COCO, VOC, your own photographs, or the built-in digits."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.running.command_line import run_command
from detection.segmentation.command import asks_for_segmentation, train_segmenter
from detection.training_options import TrainingOptions

EXAMPLES = (
    "python detection/train.py --dataset voc:my/VOC --backbone resnet50_v15 --recipe quick",
    "python detection/train.py --dataset coco:data/coco --backbone resnet101_v15 --recipe 1x --precision bf16",
    "torchrun --nproc-per-node 8 detection/train.py --dataset coco:data/coco --split train2017 --val-split val2017",
    "python detection/train.py --head fcn --help   # semantic segmentation has options of its own",
    "python detection/train.py --resume runs/voc-resnet50_v15",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    if asks_for_segmentation(argv):
        return train_segmenter(argv)
    return run_command(
        TrainingOptions, "detection.training:train", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
