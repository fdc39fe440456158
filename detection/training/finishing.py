"""What a run leaves behind besides its weights."""

from __future__ import annotations

import logging
import shlex

import torch

from backbones.running import distributed
from backbones.running.run_folder import RunFolder
from detection.building import load_detector
from detection.data.annotations import DetectionData
from detection.evaluation import detect_all, diagnose, score
from detection.report import write_report
from detection.score_thresholds import store_thresholds
from detection.tables import as_json
from detection.training.job import EVALUATION_BATCH
from detection.training.options import TrainingOptions, as_facts

logger = logging.getLogger("shortcut")


def finish(options: TrainingOptions, run: RunFolder, val: DetectionData | None, device: torch.device) -> None:
    """Score the kept weights once more: metrics, report, and each class's score of the best F1, into the weights.

    Args:
        options: resolved.
        run: with weights.
        val: what they were chosen by; without it only the weights are there.
        device: to score on.
    """
    if val is None:
        if distributed.is_main():
            run.write_metrics({})
            _say_what_comes_next(options, run)
        return
    detector = load_detector(run.path, str(device))
    detector.precision = options.precision
    found = detect_all(detector.predict_each, val, EVALUATION_BATCH)
    if not distributed.is_main():
        return
    evaluation = score(found, val.annotations, options.eval_backend)
    thresholds = evaluation.best_thresholds
    diagnosis = diagnose(found, val.annotations, thresholds)
    store_thresholds(run.path, thresholds)
    run.write_metrics({"split": options.val_split, **as_json(evaluation, diagnosis.errors)})
    title = f"{options.backbone} {detector.settings.head.upper()} on {options.dataset}"
    write_report(run.report, title, evaluation, found, val, run.read_records(), as_facts(options), diagnosis)
    marks = {name: evaluation.metrics[name] for name in ("AP", "AP50", "mask_AP") if name in evaluation.metrics}
    logger.info("%s %s: %s", options.dataset, options.val_split,
                ", ".join(f"{name} {value:.4f}" for name, value in marks.items()))  # fmt: skip
    _say_what_comes_next(options, run)


def _say_what_comes_next(options: TrainingOptions, run: RunFolder) -> None:
    logger.info("weights: %s%s", run.weights, f"   report: {run.report}" if run.report.exists() else "")
    model, dataset = shlex.quote(str(run.path)), shlex.quote(options.dataset)
    place = f" --data-dir {shlex.quote(options.data_dir)}" if options.data_dir else ""
    split = "test" if options.val_split == "none" else options.val_split
    logger.info(
        "next:\n  %s\n  %s\n  %s",
        f"python detection/evaluate.py --model {model} --dataset {dataset} --split {split}{place}",
        f"python detection/predict.py --model {model} PICTURES --output found",
        f"python deploy/export.py --model {model} --format onnx",
    )
