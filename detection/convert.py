#!/usr/bin/env python
"""Turn another project's detector, published or in a file, into a model of this one."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass

from backbones.running.command_line import OutputOptions, option, run_command

EXAMPLES = (
    "python detection/convert.py --weights torchvision://maskrcnn_resnet50_fpn --output coco-mask.safetensors",
    "python detection/convert.py --weights detectron2://faster_rcnn_R_50_C4_3x --exportable --output c4.safetensors",
    "python detection/convert.py --weights mine.pth --classes cell platelet --output cells.safetensors",
)


@dataclass(frozen=True, kw_only=True)
class ConversionOptions(OutputOptions):
    """What to read, and what its file does not say."""

    weights: str = option(
        "",
        "torchvision://NAME, detectron2://NAME, or a .pth, .pkl or .safetensors file (.xz too); or a model of ours, "
        "to make it exportable",
        group="model",
    )
    classes: tuple[str, ...] = option(
        (), "names in the order of the labels, where the file has others than COCO's", group="model"
    )
    norm_eps: float | None = option(
        None,
        "what frozen batch normalization adds to its variances, where it is not 1e-5 and the file is not one of the "
        "published",
        group="model",
    )
    exportable: bool = option(
        False,
        "pool and pad as exported graphs can, where the detector does it otherwise: two samples along a bin's side, "
        "sides that are multiples of 32",
        group="model",
    )
    output: str = option("", "the .safetensors file to write", group="output", metavar="FILE")


def run(options: ConversionOptions) -> None:
    """Read, convert, write, and say what can be done with it."""
    from pathlib import Path

    from backbones.errors import InputError
    from backbones.running.known_files import safetensors_with
    from backbones.running.outputs import Kind, output_files
    from backbones.running.progress import start_logging
    from detection.building import assemble, detector_of, save_detector
    from detection.settings import exportable_settings
    from detection.weights import convert_detector, read_source

    if not options.weights or not options.output:
        raise InputError("give --weights NAME-OR-FILE and --output FILE.safetensors")
    options = output_files(
        options, reads=(options.weights,), output=Kind("detector.safetensors", safetensors_with("origin"))
    )
    start_logging(options.quiet)
    content = read_source(options.weights)
    if content.metadata is None:
        foreign = convert_detector(content, options.classes, options.norm_eps)
        detector = assemble(foreign.settings, foreign.tensors, foreign.origin)
    elif options.classes or options.norm_eps is not None:
        raise InputError(f"{options.weights}: is a model of this project, which says what --classes and --norm-eps say")
    else:
        detector = detector_of(content)
    if options.exportable:
        detector.settings = exportable_settings(detector.settings)
    save_detector(detector, Path(options.output), origin=options.weights)
    settings = detector.settings
    shown = ", ".join(settings.classes[:3]) + (", ..." if len(settings.classes) > 3 else "")
    print(f"{options.output}: {settings.backbone} {settings.head}, {len(settings.classes)} classes ({shown})")
    print(f"next: python detection/predict.py --model {options.output} PICTURES")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and convert."""
    return run_command(ConversionOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
