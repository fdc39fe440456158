#!/usr/bin/env python
"""Error rates of a classifier, trained or exported."""

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
    "python backbones/evaluate.py --model runs/digits-resnet20 --dataset digits --split test",
    "python backbones/evaluate.py --model resnet18.pth --arch resnet18 --classes wnids.txt --dataset folder:val",
)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(CommandOptions):
    """What to score, on what."""

    model: str = option("", "a run folder, a .safetensors, torchvision or .onnx file", group="model")
    arch: str | None = option(None, "the network, for files that do not say", group="model")
    classes: str | None = option(
        None, "names in the order of the classifier, one a line, for files that do not say", group="model",
        metavar="FILE",
    )  # fmt: skip
    dataset: str = option("digits", "digits, or folder:DIR with a folder for each class", group="data")
    split: str = option("val", "which part of digits", group="data")
    protocol: str = option("center", "which part of each picture is looked at", group="data", choices=("center",))
    batch_size: int = option(32, "pictures at once", group="machine")
    output: str | None = option(None, "write the numbers to this file", group="output", metavar="FILE.json")


def run(options: EvaluationOptions) -> None:
    """Evaluate, print, and write what is asked for."""
    from backbones.data.digits import digits_classification
    from backbones.data.folders import read_class_names, read_folder
    from backbones.data.labelled import pictures_of
    from backbones.errors import InputError
    from backbones.evaluation import center_crop_scores, rates_of
    from backbones.running.atomic_write import write_json
    from backbones.running.progress import start_logging
    from deploy.models import open_classifier

    if not options.model:
        raise InputError("give --model: a run folder, a .safetensors, torchvision or .onnx file")
    start_logging(options.quiet)
    names = read_class_names(Path(options.classes)) if options.classes else ()
    model = open_classifier(options.model, options.arch, names)
    if options.dataset == "digits":
        digits = digits_classification(options.split)
        pictures, labels = iter(digits.images), digits.labels
    elif options.dataset.startswith("folder:"):
        files = read_folder(Path(options.dataset.removeprefix("folder:")), model.classes)
        pictures, labels = pictures_of(files), files.labels
    else:
        raise InputError(f"--dataset {options.dataset}: there are digits and folder:DIR")
    scores = center_crop_scores(model.logits, pictures, model.convention, options.batch_size)
    rates = rates_of(scores, labels)
    print(f"top-1 error {rates.top1:.2f} %   top-5 error {rates.top5:.2f} %   {rates.images} images")
    if options.output:
        result = {"model": options.model, "dataset": options.dataset, "split": options.split, "images": rates.images}
        write_json(Path(options.output), {**result, "protocol": options.protocol, **rates.as_metrics()})


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and evaluate."""
    return run_command(EvaluationOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
