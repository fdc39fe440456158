#!/usr/bin/env python
"""What a network needs besides training.

mean: the per-pixel mean of central crops of the training set (section 3.4), which training then finds.
statistics: the means and variances of batch normalization, computed anew over a sample of the training set, as the
paper does before detectors freeze them (appendix A). Pictures are framed as for testing.
"""

from __future__ import annotations

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.data.names import HELP as DATASETS
from backbones.errors import InputError
from backbones.running.command_line import OutputOptions, option, run_command

if TYPE_CHECKING:
    from backbones.classifier import Classifier

EXAMPLES = (
    "python backbones/prepare.py mean --dataset imagenet --images 0 --workers 16 --output mean.png",
    "python backbones/prepare.py statistics --model runs/digits-resnet20 --output recomputed.safetensors",
    "python backbones/prepare.py statistics --model resnet50.pth --arch resnet50_v15 --dataset imagenet "
    "--output resnet50.safetensors",
)


@dataclass(frozen=True, kw_only=True)
class PreparationOptions(OutputOptions):
    """What to prepare, from what."""

    what: str = option("", "what to prepare", group="preparation", positional=True, choices=("mean", "statistics"))
    model: str = option("", "a run folder, a .safetensors or a torchvision file", group="model")
    arch: str | None = option(None, "the network, for files that do not say", group="model")
    classes: str | None = option(
        None, "names in the order of the classifier, one a line, for files that do not say", group="model",
        metavar="FILE",
    )  # fmt: skip
    dataset: str = option("digits", DATASETS, group="data")
    data_dir: str | None = option(None, "where named sets lie (default: $DATA_DIR, or data)", group="data",
                                  metavar="DIR")  # fmt: skip
    split: str = option("train", "which part", group="data")
    images: int | None = option(
        None,
        "how many pictures, drawn at random; 0 for all; by default 10000 for mean, 8192 for statistics",
        group="data",
    )
    seed: int = option(0, "of the draw", group="data")
    exact: bool = option(True, "layer by layer, many passes; or all layers in one pass, each normalized by the batch",
                         group="statistics")  # fmt: skip
    batch_size: int = option(64, "pictures at once", group="machine")
    workers: int = option(2, "threads that read pictures ahead", group="machine")
    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of convolutions", group="machine", choices=("fp32", "bf16", "fp16"))
    output: str | None = option(
        None, "mean: a picture of it; statistics: the .safetensors file", group="output", metavar="FILE"
    )


def run(options: PreparationOptions) -> None:
    """Do what is asked for."""
    if options.what not in COMMANDS:
        raise InputError(f"say what to prepare: {' or '.join(COMMANDS)}")
    COMMANDS[options.what](options)


def write_mean(options: PreparationOptions) -> None:
    """Compute the mean picture of a training set, which is then kept, and show it as a picture if asked for."""
    from backbones.data.arrays import LabelledImages
    from backbones.data.datasets import read_classification
    from backbones.pretraining.data import SIDE, TEST_SIDE, mean_picture
    from backbones.running.known_files import is_figure, save_png
    from backbones.running.outputs import Kind, output_files
    from backbones.running.progress import start_logging

    options = output_files(options, data=(options.dataset, options.data_dir), output=Kind("mean.png", is_figure))
    start_logging(options.quiet)
    data: Any = read_classification(options.dataset, options.split, data_dir=options.data_dir)
    if isinstance(data, LabelledImages):
        raise InputError(f"--dataset {options.dataset}: lies in memory; training takes the mean of all of it by itself")
    images = 10_000 if options.images is None else options.images
    mean = mean_picture(data, SIDE, TEST_SIDE, images, options.workers, options.quiet)
    if options.output:
        save_png(mean.picture.permute(1, 2, 0).round().byte().numpy(), Path(options.output))
        print(f"{options.output}: the mean as a picture, to look at; training takes the kept one")
    print("mean of each channel: " + ", ".join(f"{value:.2f}" for value in mean.picture.mean((1, 2)).tolist()))


def write_statistics(options: PreparationOptions) -> None:
    """Write the model with statistics of a sample of its data, everything else as it was."""
    from backbones.batch_norm_statistics import passes_over, recompute_statistics
    from backbones.classifier import classifier_of
    from backbones.data.datasets import read_classification
    from backbones.data.folders import read_class_names
    from backbones.errors import InputError
    from backbones.protocols.sample import FramedSample, draw_numbers
    from backbones.running.known_files import safetensors_with
    from backbones.running.outputs import Kind, output_files
    from backbones.running.precision import autocast, choose_device, warn_of_emulation
    from backbones.running.progress import advance_and_report, progress, start_logging
    from backbones.weights.reading import read_source

    if not options.model or not options.output:
        raise InputError("give --model and --output: the file to read, and the .safetensors file to write")
    count = 8192 if options.images is None else options.images
    if options.batch_size < 1 or count < 0 or options.workers < 0:
        raise InputError("--batch-size must be positive, --images and --workers not negative")
    options = output_files(
        options, reads=(options.model, options.classes), data=(options.dataset, options.data_dir),
        output=Kind("statistics.safetensors", safetensors_with("statistics")),
    )  # fmt: skip
    start_logging(options.quiet)
    device = choose_device(options.device)
    warn_of_emulation(device, options.precision)
    names = read_class_names(Path(options.classes)) if options.classes else ()
    content = read_source(options.model)
    classifier = classifier_of(content, options.arch, names).to(device)
    said = content.metadata.more if content.metadata else {"recipe": None, "metrics": {}}
    if classifier.convention.size is None:
        raise InputError(f"{options.model}: does not say the size of its pictures, so they cannot share a batch")
    data = read_classification(options.dataset, options.split, data_dir=options.data_dir)
    numbers = draw_numbers(len(data.labels), count, options.seed)
    sample = FramedSample(
        data, numbers, classifier.convention, options.batch_size, device, options.workers, keep=options.exact
    )
    total = len(sample) * passes_over(classifier, options.exact)
    with autocast(device, options.precision), progress("statistics", total, quiet=options.quiet) as bar:
        images = recompute_statistics(classifier, sample, options.exact, advance_and_report(bar, "batches", every=20))
    about = {"dataset": options.dataset, "split": options.split, "images": images, "exact": options.exact}
    _write(classifier, said, options, about)
    print(f"{options.output}: {passes_over(classifier)} layers with the statistics of {images} images")


def _write(
    classifier: Classifier, said: dict[str, Any], options: PreparationOptions, statistics: dict[str, Any]
) -> None:
    """A model file of ours, with all that the file it comes from says, if that is ours too."""
    from backbones.classifier import describe
    from backbones.weights.model_file import write_model

    tensors = {f"network.{name}": value for name, value in classifier.network.state_dict().items()}
    mean = classifier.normalize.mean
    if mean.shape[1:] != (1, 1):
        tensors["normalize.mean"] = mean
    metadata = describe(classifier).with_more(**said, statistics=statistics)
    write_model(Path(options.output or ""), tensors, metadata)


COMMANDS: dict[str, Callable[[PreparationOptions], None]] = {"mean": write_mean, "statistics": write_statistics}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and prepare."""
    return run_command(PreparationOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
