#!/usr/bin/env python
"""Detect objects in pictures: boxes with class and score drawn on copies, and JSON."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.running.command_line import CommandOptions, option, run_command

EXAMPLES = (
    "python detection/predict.py --model runs/digits-resnet20 street.jpg holiday/",
    "python detection/predict.py --model model.onnx holiday/ --threshold 0.7 --output found",
)


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(CommandOptions):
    """Which model, on which pictures."""

    inputs: tuple[str, ...] = option((), "pictures, or folders of pictures", group="data", positional=True)
    model: str = option("", "a run folder, a .safetensors or an .onnx file", group="model")
    threshold: float = option(0.5, "least score of what is drawn and written", group="model")
    batch_size: int = option(8, "pictures at once", group="machine")
    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of a trained model", group="machine", choices=("fp32", "bf16", "fp16"))
    output: str = option("detections", "folder for pictures and detections.json", group="output", metavar="DIR")
    enlarge: int = option(1, "draw on pictures so many times larger", group="output")


def run(options: PredictionOptions) -> None:
    """Detect, draw, write; unreadable pictures are named, skipped and counted as a failure."""
    from backbones.errors import InputError
    from backbones.running.progress import progress, start_logging
    from deploy.models import open_detector
    from detection.prediction import find_pictures, predict_files

    if not options.model:
        raise InputError("give --model: a run folder, a .safetensors or an .onnx file")
    start_logging(options.quiet)
    files = find_pictures(options.inputs)
    detector = open_detector(options.model, options.device, options.precision)
    with progress("detecting", len(files), quiet=options.quiet) as bar:
        faulty = predict_files(
            detector, files, Path(options.output), options.threshold, options.batch_size, options.enlarge, bar.advance
        )
    print(f"{len(files) - len(faulty)} pictures and detections.json are in {options.output}")
    for fault in faulty:
        print(f"error: {fault}", file=sys.stderr)
    if faulty:
        raise InputError(f"{len(faulty)} of {len(files)} pictures could not be read; the others are done")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and predict."""
    return run_command(PredictionOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
