"""``python detection/train.py --head fcn``: how that command line is told from a detector's. No torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backbones.running.command_line import run_command
from detection.segmentation.options import HEAD, SegmentationOptions

EXAMPLES = (
    "python detection/train.py --head fcn --dataset digits",
    "python detection/train.py --head fcn --dataset voc:my/VOC --recipe quick",
    "python detection/train.py --head fcn --dataset coco:data/coco --backbone resnet101_v15 --recipe coco",
)


def train_segmenter(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    description = "Train a segmenter on VOC's label images, COCO's masks, or the built-in digits."
    return run_command(
        SegmentationOptions, "detection.segmentation.training:train", description=description, examples=EXAMPLES,
        argv=argv,
    )  # fmt: skip


def asks_for_segmentation(argv: Sequence[str] | None) -> bool:
    """Whether a command line of ``detection/train.py`` has ``--head fcn``, or names a run or a file that has."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--head", "--resume", "--config"):
        parser.add_argument(flag)
    try:
        given, _ = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    except (argparse.ArgumentError, SystemExit):
        return False  # a flag without its value: the command's own parser says so
    if given.head is not None:
        return bool(given.head == HEAD)
    files = [Path(given.resume) / "config.yaml"] if given.resume else []
    files += [Path(given.config)] if given.config else []
    return any(_head_in(path) == HEAD for path in files)


def _head_in(path: Path) -> object:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None  # whoever reads the file next says what is wrong with it
    return values.get("head") if isinstance(values, dict) else None
