#!/usr/bin/env python
"""Score a detector or a segmenter, trained or exported, on COCO, VOC, your own data, or the built-in digits."""

from __future__ import annotations

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.running.command_line import option, run_command
from deploy.engine_names import ENGINES
from detection.data.names import HELP
from detection.inference_switches import Switches

if TYPE_CHECKING:
    import torch

    from detection.data.annotations import DetectionData
    from detection.detections import Detections
    from detection.evaluation import Diagnosis, Evaluation

EXAMPLES = (
    "python detection/evaluate.py --model runs/digits-resnet20 --dataset digits --split test",
    "python detection/evaluate.py --model model.onnx --dataset voc:my/VOC --split test --output metrics.json",
    "python detection/evaluate.py --model runs/mine --dataset voc:my/VOC --split val --store-thresholds",
    "python detection/evaluate.py --model runs/a runs/b --dataset coco --refine --vote 0.5 --maxout 400 600 800 1000",
    "python detection/evaluate.py --results results.json --dataset coco:data/coco --split val2017",
)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Switches):
    """What to score, on what."""

    model: tuple[str, ...] = option(
        (),
        "a run folder, a .safetensors, an .onnx or a .plan file; several trained detectors are an ensemble",
        group="model",
    )
    results: str | None = option(
        None, "score this COCO results file of any program, in place of a model", group="model", metavar="FILE.json"
    )
    dataset: str = option("digits", HELP, group="data")
    split: str = option("val", "which part of it", group="data")
    data_dir: str | None = option(None, "where named sets lie (by default $DATA_DIR or data)", group="data",
                                  metavar="DIR")  # fmt: skip
    masks: bool | None = option(None, "score masks, too (by default where model and data have them)", group="data")
    batch_size: int = option(8, "pictures at once", group="machine")
    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of a trained model", group="machine", choices=("fp32", "bf16", "fp16"))
    engine: str | None = option(None, "of an exported model (by default the first installed)", group="machine",
                                choices=ENGINES)  # fmt: skip
    eval_backend: str = option("pycocotools", "who computes COCO's numbers", group="output",
                               choices=("pycocotools", "hotcoco"))  # fmt: skip
    output: str | None = option(None, "write the numbers to this file", group="output", metavar="FILE.json")
    detections: str | None = option(
        None, "write the detections as a COCO results file", group="output", metavar="FILE.json"
    )
    report: str | None = option(None, "write a report with curves and pictures", group="output", metavar="FILE.html")
    store_thresholds: bool = option(
        False, "keep each class's score of the best F1 in the weights, for predict and server", group="output"
    )


def run(options: EvaluationOptions) -> None:
    """Evaluate, print tables, and write what is asked for."""
    from backbones.running import distributed
    from backbones.running.progress import start_logging

    _check(options)
    options = _decide_names(options)
    device = _device(options)
    with distributed.process_group(device):
        start_logging(options.quiet)
        if options.results:
            _score_objects(options, *_read_results(options))
        else:
            model = _open(options)
            _BY_TASK[model.task](options, model)


def _evaluate_detector(options: EvaluationOptions, detector: Any) -> None:
    _score_objects(options, *_detect(options, detector))


def _score_objects(
    options: EvaluationOptions, data: DetectionData, found: Sequence[Detections], thresholds: tuple[float, ...]
) -> None:
    """The marks of what was found; with several processes on the main one."""
    from backbones.running import distributed
    from detection.evaluation import diagnose, score

    if not distributed.is_main():
        return
    evaluation = score(found, data.annotations, options.eval_backend)
    if options.store_thresholds:
        thresholds = evaluation.best_thresholds
    diagnosis = diagnose(found, data.annotations, thresholds)
    _print(options, evaluation, diagnosis)
    _write(options, data, found, evaluation, diagnosis)


def _check(options: EvaluationOptions) -> None:
    """Refuse what does not go together, before anything is read."""
    from backbones.errors import InputError
    from backbones.extras import require
    from deploy.models import is_exported

    require(options.eval_backend, *(["matplotlib"] if options.report else []))

    if bool(options.model) == bool(options.results):
        raise InputError("give --model: a run folder, a .safetensors, an .onnx or a .plan file; or --results FILE.json")
    given = options.given_switches() + (["--store-thresholds"] if options.store_thresholds else [])
    if given and options.results:
        raise InputError(f"{', '.join(given)}: only with --model")
    if options.store_thresholds and (len(options.model) > 1 or is_exported(options.model[0])):
        raise InputError("--store-thresholds: only with one trained model, whose weights file keeps them")


def _decide_names(options: EvaluationOptions) -> EvaluationOptions:
    """The options with the names of what is written."""
    from backbones.running.known_files import is_report, json_with, never
    from backbones.running.outputs import Kind, output_files

    return output_files(
        options,
        reads=(*options.model, options.results),
        data=(options.dataset, options.data_dir),
        output=Kind("metrics.json", json_with("dataset", "split", "images")),
        detections=Kind("detections.json", never),  # COCO's results do not say whose they are
        report=Kind("report.html", is_report),
    )


def _device(options: EvaluationOptions) -> torch.device | None:
    """Of trained models; exported ones, and results, need no torch."""
    from backbones.running.precision import choose_device
    from deploy.models import is_exported

    return None if all(map(is_exported, options.model)) else choose_device(options.device)


def _open(options: EvaluationOptions) -> Any:
    """The model, or the ensemble."""
    from backbones.running.precision import warn_of_emulation
    from deploy.models import open_tested

    warn_of_emulation(_device(options), options.precision)
    return open_tested(
        options.model, options, tuple(_BY_TASK),
        device=options.device, precision=options.precision, engine=options.engine,
    )  # fmt: skip


def _detect(options: EvaluationOptions, detector: Any) -> tuple[DetectionData, Sequence[Detections], tuple[float, ...]]:
    """The data labelled as the model labels it, what the model finds, and its own thresholds."""
    from backbones.running import distributed
    from backbones.running.progress import progress
    from detection.evaluation import detect_all

    data = _read_data(options, masks=detector.settings.masks is not None)
    data = replace(data, annotations=data.annotations.relabelled(detector.classes))
    with progress("detecting", len(distributed.share_of(len(data))), quiet=options.quiet) as bar:
        found = detect_all(detector.predict_each, data, options.batch_size, bar.advance)
    return data, found, detector.settings.score_thresholds


def _evaluate_segmenter(options: EvaluationOptions, segmenter: Any) -> None:
    """Print the marks of labelled pixels, and write what is asked for."""
    from backbones.running import distributed
    from backbones.running.atomic_write import write_json
    from backbones.running.progress import progress
    from detection.segmentation.datasets import read_segmentation, refuse_faulty_labels
    from detection.segmentation.evaluation import evaluate_segmenter
    from detection.segmentation.report import write_report
    from detection.tables import plain_lines

    _refuse_for_pixels(options)
    data, faults = read_segmentation(options.dataset, options.split, segmenter.classes, data_dir=options.data_dir)
    refuse_faulty_labels(faults, options.dataset)
    with progress("segmenting", len(distributed.share_of(len(data))), quiet=options.quiet) as bar:
        marks = evaluate_segmenter(segmenter.predict_each, data, options.batch_size, bar.advance)
    if not distributed.is_main():
        return
    print("\n".join(plain_lines({**marks.metrics, **marks.per_class})))
    source = options.model[0]
    if options.output:
        about = {"model": source, "dataset": options.dataset, "split": options.split, "images": len(data)}
        write_json(Path(options.output), {**about, **marks.metrics, "per_class": marks.per_class})
    if options.report:
        title = f"{Path(source).name} on {options.dataset} {options.split}"
        write_report(Path(options.report), title, marks, segmenter.predict_each, data, plots=False)


def _refuse_for_pixels(options: EvaluationOptions) -> None:
    """What is asked of a segmenter, and only detectors have."""
    from backbones.errors import InputError

    asked = {
        "--detections": options.detections is not None, "--store-thresholds": options.store_thresholds,
        "--masks": options.masks is not None, "--eval-backend": options.eval_backend != "pycocotools",
    }  # fmt: skip
    given = [flag for flag, is_given in asked.items() if is_given]
    if given:
        raise InputError(f"{given[0]}: only detectors have it, and {options.model[0]} is none")


_BY_TASK = {"detection": _evaluate_detector, "segmentation": _evaluate_segmenter}


def _read_results(options: EvaluationOptions) -> tuple[DetectionData, Sequence[Detections], tuple[float, ...]]:
    """The data, what a results file says was found, and no thresholds."""
    from detection.data.coco_results import as_detections, have_segmentation, load_results

    path = Path(options.results or "")
    entries = load_results(path)
    data = _read_data(options, masks=have_segmentation(entries))
    return data, as_detections(entries, data.annotations, path), ()


def _read_data(options: EvaluationOptions, masks: bool) -> DetectionData:
    """The split, with masks if they are wanted; data without any is read for its boxes, unless ``--masks`` is given."""
    from backbones.errors import InputError
    from backbones.running.progress import logger
    from detection.data.datasets import read_checked

    masks = masks if options.masks is None else options.masks
    try:
        return read_checked(options.dataset, options.split, masks=masks, data_dir=options.data_dir)
    except InputError as error:
        if not masks or options.masks:
            raise
        data = read_checked(options.dataset, options.split, data_dir=options.data_dir)
        logger.warning("masks are not scored: %s", error)
        return data


def _print(options: EvaluationOptions, evaluation: Evaluation, diagnosis: Diagnosis) -> None:
    from detection.tables import describe, plain_lines

    lines = plain_lines(evaluation.metrics) if options.quiet else describe(evaluation, diagnosis.errors)
    print("\n".join(lines))


def _write(
    options: EvaluationOptions,
    data: DetectionData,
    found: Sequence[Detections],
    evaluation: Evaluation,
    diagnosis: Diagnosis,
) -> None:
    """Every file that was asked for."""
    from backbones.running.atomic_write import write_json
    from detection.metrics.coco import as_coco_results
    from detection.report import write_report
    from detection.tables import as_json

    source = options.results or " ".join(options.model)
    if options.output:
        about = {"dataset": options.dataset, "split": options.split, "images": len(data)}
        about = {"results" if options.results else "model": source, **about}
        write_json(Path(options.output), {**about, **as_json(evaluation, diagnosis.errors)})
    if options.detections:
        ids = data.annotations.image_ids.tolist()
        write_json(Path(options.detections), as_coco_results(found, ids, data.annotations.category_ids))
    if options.report:
        title = f"{Path(source).name} on {options.dataset} {options.split}"
        write_report(Path(options.report), title, evaluation, found, data, diagnosis=diagnosis, plots=False)
    if options.store_thresholds:
        from detection.score_thresholds import store_thresholds

        path = store_thresholds(options.model[0], evaluation.best_thresholds)
        print(f"thresholds of {len(evaluation.curves)} classes stored in {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and evaluate."""
    return run_command(EvaluationOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
