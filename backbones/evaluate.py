#!/usr/bin/env python
"""Error rates of a classifier, trained or exported, or of several as an ensemble, under one of the paper's protocols.

center: the central crop of the picture, resized. 10-crop: its corners and centre and their mirror images. multi-scale:
the whole picture with its shorter side at 224, 256, 384, 480 and 640, the network applied densely. Softmax outputs are
averaged, over the views of a picture and over models.
"""

from __future__ import annotations

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.data.names import HELP as DATASETS
from backbones.protocols.names import PROTOCOLS
from backbones.running.command_line import OutputOptions, option, run_command
from deploy.engine_names import ENGINES

if TYPE_CHECKING:
    import torch

    from backbones.protocols.ensemble import Member
    from backbones.protocols.labelled_data import LabelledSplit
    from backbones.protocols.scoring import Scores

EXAMPLES = (
    "python backbones/evaluate.py --model runs/digits-resnet20 --dataset digits --split test",
    "python backbones/evaluate.py --model resnet18.pth --arch resnet18 --classes wnids.txt --dataset folder:val",
    "python backbones/evaluate.py --model runs/a runs/b --dataset imagenet --protocol multi-scale",
)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(OutputOptions):
    """What to score, on what."""

    model: tuple[str, ...] = option(
        (), "run folders, .safetensors, torchvision, .onnx or .plan files; several are an ensemble", group="model",
        metavar="M",
    )  # fmt: skip
    arch: tuple[str, ...] = option(
        (), "the network, for files that do not say: one for all, or one for each", group="model", metavar="NAME"
    )
    classes: str | None = option(
        None, "names in the order of the classifier, one a line, for files that do not say", group="model",
        metavar="FILE",
    )  # fmt: skip
    dataset: str = option("digits", DATASETS, group="data")
    data_dir: str | None = option(None, "where named sets lie (default: $DATA_DIR, or data)", group="data",
                                  metavar="DIR")  # fmt: skip
    split: str | None = option(None, "which part; val, or all of a folder or file without parts", group="data")
    protocol: str = option("center", "which views of each picture are scored", group="data", choices=PROTOCOLS)
    batch_size: int = option(32, "views of the usual size at once; larger ones count by their area", group="machine")
    workers: int = option(2, "threads that read pictures ahead", group="machine")
    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of trained models", group="machine", choices=("fp32", "bf16", "fp16"))
    engine: str | None = option(None, "of exported models (by default the first installed)", group="machine",
                                choices=ENGINES)  # fmt: skip
    output: str | None = option(None, "write the numbers to this file", group="output", metavar="FILE.json")
    predictions: str | None = option(
        None, "write each picture's class, its rank and score, and the best class", group="output",
        metavar="FILE.jsonl",
    )  # fmt: skip


def run(options: EvaluationOptions) -> None:
    """Evaluate, print, and write what is asked for."""
    from backbones.evaluation import rates_of
    from backbones.protocols.ensemble import ensemble_scores
    from backbones.protocols.labelled_data import read_for
    from backbones.running.atomic_write import write_json
    from backbones.running.precision import autocast, choose_device, warn_of_emulation
    from backbones.running.progress import advance_and_report, progress, start_logging
    from deploy.models import is_exported

    _check(options)
    options = _decide_names(options)
    start_logging(options.quiet)
    trained = not all(map(is_exported, options.model))
    device = choose_device(options.device) if trained else None
    warn_of_emulation(device, options.precision)
    members = _open_members(options, device)
    data = read_for(members[0].classes, options.dataset, options.split, options.data_dir)
    total = len(members) * len(data.labels)
    with autocast(device, options.precision), progress("scoring", total, quiet=options.quiet) as bar:
        advance = advance_and_report(bar, "pictures", every=20)
        scores = ensemble_scores(members, data.pictures, options.protocol, options.batch_size, options.workers, advance)
    rates = rates_of(scores, data.labels)
    print(f"top-1 error {rates.top1:.2f} %   top-5 error {rates.top5:.2f} %   {rates.images} images   "
          f"{options.dataset} {data.split}, {options.protocol}")  # fmt: skip
    if options.predictions:
        _write_predictions(Path(options.predictions), data, scores, members[0].classes)
    if options.output:
        about = {"models": list(options.model), "dataset": options.dataset, "split": data.split}
        write_json(
            Path(options.output),
            {**about, "protocol": options.protocol, "images": rates.images, **rates.as_metrics()},
        )


def _check(options: EvaluationOptions) -> None:
    from backbones.errors import InputError

    if not options.model:
        raise InputError("give --model: run folders, .safetensors, torchvision or .onnx files")
    if len(options.arch) not in (0, 1, len(options.model)):
        raise InputError(
            f"--arch names {len(options.arch)} networks for {len(options.model)} models; give one, or one each"
        )
    if options.batch_size < 1:
        raise InputError(f"--batch-size must be positive, not {options.batch_size}")
    if options.workers < 0:
        raise InputError(f"--workers must not be negative, it is {options.workers}")


def _decide_names(options: EvaluationOptions) -> EvaluationOptions:
    """The options with the names of what is written."""
    from backbones.running.known_files import json_lines_with, json_with
    from backbones.running.outputs import Kind, output_files

    return output_files(
        options,
        reads=(*options.model, options.classes),
        data=(options.dataset, options.data_dir),
        output=Kind("metrics.json", json_with("models", "dataset", "protocol", "images")),
        predictions=Kind("predictions.jsonl", json_lines_with("picture", "class", "rank", "score", "best")),
    )


def _open_members(options: EvaluationOptions, device: torch.device | None) -> list[Member]:
    """Every model, ready to score."""
    from backbones.data.folders import read_class_names

    names = read_class_names(Path(options.classes)) if options.classes else ()
    archs = options.arch if len(options.arch) == len(options.model) else (options.arch or (None,)) * len(options.model)
    return [_open_member(model, arch, names, options, device) for model, arch in zip(options.model, archs, strict=True)]


def _open_member(
    model: str, arch: str | None, names: tuple[str, ...], options: EvaluationOptions, device: torch.device | None
) -> Member:
    from backbones.errors import InputError
    from backbones.protocols.ensemble import Member
    from backbones.protocols.names import MULTI_SCALE
    from deploy.models import open_model
    from deploy.runtimes.exported_models import ClassifierRuntime

    opened = open_model(
        model, tasks=("classification",), device=options.device, precision=options.precision, engine=options.engine,
        arch=arch, classes=names,
    )  # fmt: skip
    logits = opened.logits
    if options.protocol == MULTI_SCALE:
        if not isinstance(opened, ClassifierRuntime):
            from backbones.protocols.dense import DenseClassifier

            logits = DenseClassifier(opened).logits
        elif not (opened.metadata.exported and opened.metadata.exported.dense):
            raise InputError(
                f"{model}: was exported for one size of pictures; multi-scale testing needs the trained model"
            )
    return Member(model, logits, opened.convention, opened.classes)


def _write_predictions(path: Path, data: LabelledSplit, scores: Scores, classes: tuple[str, ...]) -> None:
    """One line for each picture: its class, that class's rank and score, and the best class with its score."""
    import json

    from backbones.evaluation import ranks_of
    from backbones.running.atomic_write import write_text

    names = getattr(data.pictures, "names", range(len(data.labels)))
    lines = []
    for name, label, rank, row in zip(names, data.labels, ranks_of(scores, data.labels), scores, strict=True):
        best = int(row.argmax())
        lines.append(json.dumps({
            "picture": str(name), "class": classes[label], "rank": int(rank), "score": round(float(row[label]), 4),
            "best": classes[best], "best_score": round(float(row[best]), 4),
        }))  # fmt: skip
    write_text(path, "".join(f"{line}\n" for line in lines))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and evaluate."""
    return run_command(EvaluationOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
