#!/usr/bin/env python
"""Write the example pictures of the page: digit scenes and single digits, composed from a seed."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backbones.running.command_line import OutputOptions, option, run_command

if TYPE_CHECKING:
    from backbones.images import Picture

EXAMPLES = ("python demo/write_examples.py --output demo/examples --overwrite",)
SCENES = (3, 7, 19, 21)
DIGITS = (0, 12, 23, 34)


@dataclass(frozen=True, kw_only=True)
class ExampleOptions(OutputOptions):
    """Where to."""

    output: str = option("demo/examples", "folder for the pictures", group="output", metavar="DIR")


def example_pictures() -> Iterator[tuple[str, "Picture"]]:
    """(file name, picture) of every example, from splits that no model is trained on."""
    from backbones.data.digits import digits_classification
    from detection.data.digits import compose_scene

    for number in SCENES:
        yield f"scene-{number}.png", compose_scene("test", number).image
    digits = digits_classification("test").images
    for number in DIGITS:
        yield f"digit-{number}.png", digits[number]


def run(options: ExampleOptions) -> None:
    """Write all."""
    from PIL import Image

    from backbones.running.outputs import Outputs

    pictures = dict(example_pictures())
    folder = Outputs(overwrite=options.overwrite).folder("--output", options.output, pictures)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name, optimize=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write."""
    return run_command(ExampleOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
