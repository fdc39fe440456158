"""What a run leaves behind besides its weights."""

from __future__ import annotations

import logging
import shlex

import torch

from backbones.running import distributed
from backbones.running.run_folder import RunFolder
from detection.building import load_detector
from detection.data.annotations import DetectionData
from detection.evaluation import Evaluation, detect_all, score
from detection.report import write_report
from detection.training.job import EVALUATION_BATCH
from detection.training.options import TrainingOptions, as_facts

logger = logging.getLogger("shortcut")


def finish(options: TrainingOptions, run: RunFolder, val: DetectionData | None, device: torch.device) -> None:
    """Score the kept weights once more, and write metrics and report."""
    if val is None:
        if distributed.is_main():
            run.write_metrics({})
        return
    detector = load_detector(run.path, str(device))
    detector.precision = options.precision
    found = detect_all(detector.predict_each, val, EVALUATION_BATCH)
    if not distributed.is_main():
        return
    evaluation: Evaluation = score(found, val.annotations)
    metrics = evaluation.metrics
    run.write_metrics({"split": options.val_split, **metrics, "per_class": evaluation.per_class})
    title = f"{options.backbone} {detector.settings.head.upper()} on {options.dataset}"
    write_report(run.report, title, evaluation, found, val, run.read_records(), as_facts(options))
    logger.info("%s %s: AP %.4f, AP50 %.4f", options.dataset, options.val_split, metrics["AP"], metrics["AP50"])
    logger.info("weights: %s   report: %s", run.weights, run.report)
    _show_what_comes_next(options, run)


def _show_what_comes_next(options: TrainingOptions, run: RunFolder) -> None:
    folder, dataset = shlex.quote(str(run.path)), shlex.quote(options.dataset)
    logger.info("next:")
    for command in (
        f"python detection/evaluate.py --model {folder} --dataset {dataset} --split {options.val_split}",
        f"python detection/predict.py --model {folder} PICTURES --output found",
        f"python deploy/export.py --model {folder} --format onnx",
    ):
        logger.info("  %s", command)
