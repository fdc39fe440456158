#!/usr/bin/env python
"""Score a detector, trained or exported, on COCO, VOC, your own data, or the built-in digits."""

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
    "python detection/evaluate.py --model runs/digits-resnet20 --dataset digits --split test",
    "python detection/evaluate.py --model model.onnx --dataset voc:my/VOC --split test --output metrics.json",
)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(CommandOptions):
    """What to score, on what."""

    model: str = option("", "a run folder, a .safetensors or an .onnx file", group="model")
    dataset: str = option("digits", "digits, voc:DIR or coco:DIR", group="data")
    split: str = option("val", "which part of it", group="data")
    batch_size: int = option(8, "pictures at once", group="machine")
    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of a trained model", group="machine", choices=("fp32", "bf16", "fp16"))
    eval_backend: str = option("pycocotools", "who computes COCO's numbers", group="output",
                               choices=("pycocotools", "hotcoco"))  # fmt: skip
    output: str | None = option(None, "write the numbers to this file", group="output", metavar="FILE.json")
    detections: str | None = option(
        None, "write the detections as a COCO results file", group="output", metavar="FILE.json"
    )
    report: str | None = option(None, "write a report with curves and pictures", group="output", metavar="FILE.html")


def run(options: EvaluationOptions) -> None:
    """Evaluate, print a table, and write what is asked for."""
    from backbones.errors import InputError
    from backbones.running import distributed
    from backbones.running.atomic_write import write_json
    from backbones.running.precision import choose_device, warn_of_emulation
    from backbones.running.progress import progress, start_logging
    from deploy.models import open_detector
    from detection.data.datasets import read_dataset
    from detection.data.faults import refuse_faulty_files
    from detection.evaluation import detect_all, score
    from detection.metrics.coco import as_coco_results
    from detection.report import write_report

    if not options.model:
        raise InputError("give --model: a run folder, a .safetensors or an .onnx file")
    device = choose_device(options.device)
    with distributed.process_group(device):
        start_logging(options.quiet)
        warn_of_emulation(device, options.precision)
        detector = open_detector(options.model, options.device, options.precision)
        data, faults = read_dataset(options.dataset, options.split)
        refuse_faulty_files(faults, options.dataset)
        annotations = data.annotations.relabelled(detector.classes)
        with progress("detecting", len(distributed.share_of(len(data))), quiet=options.quiet) as bar:
            found = detect_all(detector.predict_each, data, options.batch_size, bar.advance)
        if not distributed.is_main():
            return
        evaluation = score(found, annotations, options.eval_backend)
    for name, value in {**evaluation.metrics, **evaluation.per_class}.items():
        print(f"{name:<14} {value:.4f}" if value >= 0 else f"{name:<14} no ground truth")
    if options.output:
        result = {"model": options.model, "dataset": options.dataset, "split": options.split, "images": len(data)}
        write_json(Path(options.output), {**result, **evaluation.metrics, "per_class": evaluation.per_class})
    if options.detections:
        ids = annotations.image_ids.tolist()
        write_json(Path(options.detections), as_coco_results(found, ids, annotations.category_ids))
    if options.report:
        title = f"{Path(options.model).name} on {options.dataset} {options.split}"
        labelled = type(data)(data.name, annotations, data.pictures, data.mirrored)
        write_report(Path(options.report), title, evaluation, found, labelled)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and evaluate."""
    return run_command(EvaluationOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
