#!/usr/bin/env python
"""Write the digit scenes to files, in COCO, VOC and YOLO layout, so that any tool can read them."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass

from backbones.running.command_line import OutputOptions, option, run_command

EXAMPLES = ("python detection/write_digits.py --output data/digits",)


@dataclass(frozen=True, kw_only=True)
class WritingOptions(OutputOptions):
    """Where to."""

    output: str = option("data/digits", "folder that will hold coco/, voc/ and yolo/", group="output", metavar="DIR")
    limit: int = option(0, "at most so many scenes of each split; 0 for all", group="output")


def run(options: WritingOptions) -> None:
    """Write all layouts."""
    from backbones.running.outputs import Outputs, recording
    from detection.data.digit_files import write_coco, write_voc, write_yolo

    limit = options.limit or None
    names = ["coco/", "voc/", "yolo/"]
    output = Outputs(overwrite=options.overwrite).folder("--output", options.output, names)
    with recording(output, names):
        write_coco(output / "coco", limit)
        write_voc(output / "voc", limit)
        write_yolo(output / "yolo", limit)
    print(", ".join(f"--dataset {layout}:{output / layout}" for layout in ("coco", "voc", "yolo")))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write."""
    return run_command(WritingOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
