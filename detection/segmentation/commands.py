"""What ``detection/evaluate.py`` and ``detection/predict.py`` do with a segmenter."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.atomic_write import write_json
from backbones.running.outputs import Outputs, recording
from backbones.running.precision import choose_device, warn_of_emulation
from backbones.running.progress import progress, start_logging
from backbones.weights.model_file import task_of
from detection.segmentation.building import TASK, load_segmenter
from detection.segmentation.datasets import read_segmentation, refuse_faulty_labels
from detection.segmentation.evaluation import evaluate_segmenter
from detection.segmentation.prediction import predict_segmentation_files, result_names
from detection.segmentation.report import write_report
from detection.segmentation.segmenter import Segmenter


def is_segmenter(model: str) -> bool:
    """Whether a run folder or a weights file of ours holds a segmenter.

    Raises:
        InputError: the file is missing or damaged.
    """
    return task_of(Path(model)) == TASK


def evaluate_model(
    model: str,
    dataset: str,
    split: str,
    *,
    data_dir: str | None = None,
    batch_size: int = 4,
    device: str = "auto",
    precision: str = "fp32",
    output: str | None = None,
    report: str | None = None,
    quiet: bool = False,
) -> None:
    """Evaluate, print a table, and write what is asked for; the options are those of ``detection/evaluate.py``."""
    place = choose_device(device)
    with distributed.process_group(place):
        start_logging(quiet)
        warn_of_emulation(place, precision)
        segmenter = _load(model, str(place), precision)
        data, faults = read_segmentation(dataset, split, segmenter.classes, data_dir=data_dir)
        refuse_faulty_labels(faults, dataset)
        with progress("segmenting", len(distributed.share_of(len(data))), quiet=quiet) as bar:
            marks = evaluate_segmenter(segmenter.predict_each, data, batch_size, bar.advance)
        if not distributed.is_main():
            return
    for name, value in {**marks.metrics, **marks.per_class}.items():
        print(f"{name:<14} {value:.4f}" if value >= 0 else f"{name:<14} no ground truth")
    if output:
        about = {"model": model, "dataset": dataset, "split": split, "images": len(data)}
        write_json(Path(output), {**about, **marks.metrics, "per_class": marks.per_class})
    if report:
        title = f"{Path(model).name} on {dataset} {split}"
        write_report(Path(report), title, marks, segmenter.predict_each, data, plots=False)


def predict_files(
    model: str,
    files: Mapping[Path, Path],
    output: str,
    *,
    batch_size: int = 4,
    device: str = "auto",
    precision: str = "fp32",
    quiet: bool = False,
    overwrite: bool = False,
) -> None:
    """Label the pixels of files; the options are those of ``detection/predict.py``.

    Args:
        model: a run folder or a weights file.
        files: pictures, and what their results are called: a path without ending, relative to ``output``.

    Raises:
        InputError: a file that something else wrote would be replaced; or pictures could not be read, and the others
            are done.
    """
    start_logging(quiet)
    names = result_names(files)
    folder = Outputs((model, *files), overwrite=overwrite).folder("--output", output, names)
    segmenter = _load(model, str(choose_device(device)), precision)
    with recording(folder, names), progress("segmenting", len(files), quiet=quiet) as bar:
        faulty = predict_segmentation_files(segmenter, files, folder, batch_size, bar.advance)
    if not quiet:
        print(f"{len(files) - len(faulty)} pictures, labels/ and segmentation.json are in {output}")
    for fault in faulty:
        print(f"error: {fault}", file=sys.stderr)
    if faulty:
        raise InputError(f"{len(faulty)} of {len(files)} pictures could not be read; the others are done")


def _load(model: str, device: str, precision: str) -> Segmenter:
    segmenter = load_segmenter(model, device)
    segmenter.precision = precision
    return segmenter
