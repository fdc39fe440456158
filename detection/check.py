#!/usr/bin/env python
"""Check detection data: counts, and every fault by file."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass

from backbones.running.command_line import CommandOptions, option, run_command

EXAMPLES = (
    "python detection/check.py --dataset voc:my/VOC --split train",
    "python detection/check.py --dataset coco:data/coco --split val2017 --no-decode",
)


@dataclass(frozen=True, kw_only=True)
class CheckOptions(CommandOptions):
    """What to check."""

    dataset: str = option("digits", "digits, voc:DIR or coco:DIR", group="data")
    split: str = option("train", "which part of it", group="data")
    decode: bool = option(True, "read every picture, which finds truncated ones", group="data")


def run(options: CheckOptions) -> None:
    """Print counts and faults; faults that would stop a training run end in an error."""
    from backbones.errors import InputError
    from detection.data.checking import check_pictures, describe
    from detection.data.datasets import read_dataset

    data, faults = read_dataset(options.dataset, options.split)
    if options.decode:
        faults = [*faults, *check_pictures(data)]
    if not options.quiet:
        print("\n".join(describe(data.annotations)))
    for fault in faults:
        print(f"{fault.kind}  {fault}")
    boxes = sum(fault.kind == "box" for fault in faults)
    print(f"{boxes} boxes are left out, {len(faults) - boxes} files are faulty")
    if boxes < len(faults):
        raise InputError("faulty files must be mended or removed before training")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and check."""
    return run_command(CheckOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
