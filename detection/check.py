#!/usr/bin/env python
"""Check detection data: counts, and every fault by file."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backbones.running.command_line import CommandOptions, option, run_command
from detection.data.names import HELP, default_splits

if TYPE_CHECKING:
    from detection.data.annotations import DetectionData
    from detection.data.faults import Fault

EXAMPLES = (
    "python detection/check.py --dataset voc:my/VOC",
    "python detection/check.py --dataset coco:data/coco --split val2017 --masks --no-decode",
)


@dataclass(frozen=True, kw_only=True)
class CheckOptions(CommandOptions):
    """What to check."""

    dataset: str = option("digits", HELP, group="data")
    split: tuple[str, ...] = option((), "which parts of it (by default train and val)", group="data")
    masks: bool = option(False, "masks, too: objects without one are faults", group="data")
    data_dir: str | None = option(None, "where named sets lie (by default $DATA_DIR or data)", group="data",
                                  metavar="DIR")  # fmt: skip
    download: bool = option(False, "fetch a named set with a public address", group="data")
    decode: bool = option(True, "read all of every picture, which finds truncated ones", group="data")


def run(options: CheckOptions) -> None:
    """Print counts and faults; faults that would stop a training run end in an error."""
    from backbones.errors import InputError
    from backbones.running.progress import start_logging
    from detection.data.archives import download_dataset
    from detection.data.checking import describe, describe_classes, misspelt_classes, repeated_pictures
    from detection.data.faults import count_of

    start_logging(options.quiet)
    if options.download:
        download_dataset(options.dataset, options.data_dir)
    splits: dict[str, DetectionData] = {}
    faults: list[Fault] = []
    for split in dict.fromkeys(options.split or default_splits(options.dataset)):
        splits[split], found = _check_split(options, split, next(iter(splits.values()), None))
        if not options.quiet:
            made = " (made: the data has no splits)" if splits[split].made_split else ""
            print(f"{options.dataset} {split}{made}", *describe(splits[split].annotations), sep="\n")
        faults += found
    if options.decode:
        faults += repeated_pictures(splits)
    annotations = {split: data.annotations for split, data in splits.items()}
    faults += misspelt_classes(annotations)
    if not options.quiet:
        print("\n".join(describe_classes(annotations)))
    faults = list(dict.fromkeys(faults))  # the classes of a made split are those of both parts
    for fault in faults:
        print(f"{fault.kind}  {fault}")
    left_out, faulty, warnings = (sum(fault.kind == kind for fault in faults) for kind in ("box", "file", "warning"))
    print(
        f"left out: {count_of(left_out, 'object')}; to be mended: {count_of(faulty, 'file')}; "
        f"{count_of(warnings, 'likely mistake')}"
    )
    if faulty:
        raise InputError("faulty files must be mended or removed (a picture with its annotations) before training")


def _check_split(
    options: CheckOptions, split: str, first: "DetectionData | None"
) -> "tuple[DetectionData, list[Fault]]":
    """A split, in the classes of the first one as in training, and all that is wrong with it."""
    from backbones.running.progress import progress
    from detection.data.checking import check_pictures, likely_mistakes
    from detection.data.datasets import read_dataset

    classes = None if first is None else first.annotations.classes
    data, faults = read_dataset(options.dataset, split, classes, masks=options.masks, data_dir=options.data_dir)
    with progress(f"reading {split}", len(data), quiet=options.quiet) as bar:
        faults += check_pictures(data, options.decode, bar.advance)
    return data, faults + likely_mistakes(data)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and check."""
    return run_command(CheckOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
