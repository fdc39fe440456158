#!/usr/bin/env python
"""Exported models against torch's eager ones, in one run, each with its accuracy.

ResNet-50 at 224 against our own eager fp32 (the same operations as torchvision's), with top-1 on 60 ImageNet pictures,
beside what a user would pick without us (``classifier_peers.py``); what does not run here is listed with the reason;
Faster R-CNN R50-FPN at 640 against torchvision's eager with 300 proposals and, in a second column, with its stock
1,000, with the share of eager detections that are found again. Both have ImageNet's ResNet-50 and the same random
heads, whose outputs spread as trained ones do. Random heads put many detections at the edge of suppression, where
rounding decides, so ``export.py`` would refuse all but fp32: ``--write-twin`` writes these files without its gate. What
a precision costs trained detectors, ``exported_accuracy.py`` measures.

    W=data/imagenet_weights/resnet50_imagenet_torchvision_layout.pth.xz
    for P in fp32 bf16 int8; do
        python deploy/export.py --model $W --arch resnet50_v15 --precision $P --output r50-$P.onnx
    done
    python tests/benchmarks/deploy_speed.py --weights $W --classifier r50-*.onnx --threads 2 \\
        --output results/deploy_speed_cpu.json
    python tests/benchmarks/deploy_speed.py --weights $W --write-twin twin
    python tests/benchmarks/deploy_speed.py --weights $W --detector twin/*.onnx --threads 2 \\
        --output results/deploy_speed_detector_cpu.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from backbones.classifier import load_classifier
from backbones.errors import InputError
from backbones.framing import frame_for_classifier
from backbones.images import SUFFIXES, Picture, read_image, resize
from backbones.running.atomic_write import write_json
from backbones.running.measurement import write_measurement
from backbones.weights.file_content import read_content
from deploy.benchmarking.subjects import TORCH, Subject, make_images, open_subject
from deploy.benchmarking.timing import WORK, Turns, limited_threads, matrix_product, summarize, take_turns
from deploy.benchmarking.work import multiply_adds
from deploy.export_options import FLAVOURS, ExportOptions
from deploy.exportable import open_exportable
from deploy.exporting import verification_pictures
from deploy.onnx_export import trace, write_onnx
from deploy.precision.layer_choice import Quantiser
from detection.agreement import COUNTED_SCORE, agreement
from detection.building import save_detector
from detection.detections import Detections
from detection.metrics.voc import pairwise_iou
from tests.benchmarks.classifier_peers import open_peers
from tests.detection.torchvision_twin import make_twins

ENGINES = ("openvino", "onnxruntime")
SIDE = 640
CLASSES = 20
TARGETS = {
    "classification": {1: {"int8": 5.0, "bf16": 2.7}, 8: {"int8": 6.0, "bf16": 3.0}},
    "detection": {1: {"fp32": 1.3, "bf16": 2.0, "int8": 3.0}},
}
"""How many times faster than eager the best engine is to be, by batch and precision."""
PEAK = "matrix product"
BACKGROUND = 10.0
"""Added to the background's score: some 40 detections are left of a photograph."""
WRITTEN = (("fp32", None), ("bf16", None), ("int8", "tensorrt"), ("int8", "cpu"))
"""Precisions of the twin's files, with their style of quantisation."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """A call to be timed at one batch; ``subject`` is None for torchvision's."""

    name: str
    call: Callable[[], object]
    subject: Subject | None = None


def main() -> None:
    options = parse()
    torch.set_grad_enabled(False)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.write_twin:
        write_twin(options)
        return
    results: dict[str, list[Result]] = {}
    left_out: dict[str, str] = {}
    with limited_threads(options.threads):
        if options.classifier:
            results["classification"] = classifiers(options, left_out)
        if options.detector:
            results["detection"] = detectors(options, left_out)
    for task, rows in results.items():
        for row in rows:
            print(task, row)
    print("left out:", left_out)
    if options.output:
        write_measurement(
            options.output,
            what="exported models against eager ones in the same run: milliseconds, images per second, times faster "
            "turn by turn, share of the rate of fp32 matrix products, and accuracy",
            settings={"threads": options.threads, "rounds": options.rounds, "seconds": options.seconds},
            targets=TARGETS,
            left_out=left_out,
            results=results,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifier", nargs="+", default=(), metavar="FILE", help="exported ResNet-50")
    parser.add_argument("--weights", required=True, help="of ResNet-50, for the classifier and the detector's body")
    parser.add_argument("--arch", default="resnet50_v15")
    parser.add_argument("--pictures", type=Path, default=Path("data/imagenet60"), help="folders called after classes")
    parser.add_argument("--calibration", metavar="DIR", help="export.py's --images, for a peer's own quantiser")
    parser.add_argument("--detector", nargs="+", default=(), metavar="FILE", help="the exported twin")
    parser.add_argument("--write-twin", type=Path, metavar="DIR", help="write the detector's files, and stop")
    parser.add_argument("--photographs", default="data/coco100/val2017", metavar="DIR")
    parser.add_argument("--agreeing", type=int, default=20, help="photographs to compare detections on")
    parser.add_argument("--batch", type=int, nargs="+", default=(1, 8), help="of the classifier")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--output", help="write a JSON file")
    return parser.parse_args()


def classifiers(options: argparse.Namespace, left_out: dict[str, str]) -> list[Result]:
    """Ours and the peers, all against our eager one and against each peer."""
    eager = Subject(options.weights, TORCH, load_classifier(options.weights, options.arch).eval())
    tensors = read_content(Path(options.weights)).tensors
    peers, reasons = open_peers(tensors, verification_pictures(options.calibration), options.threads)
    left_out |= reasons
    subjects = [eager, *opened(options.classifier, options.threads, left_out), *peers]
    against = [subject.name for subject in (eager, *peers)]
    accuracy = {subject.name: {"top1": top1(subject, options.pictures)} for subject in subjects}
    rows: list[Result] = []
    for batch in options.batch:
        images = make_images(batch, (224, 224), options.photographs)
        sides = [Side(subject.name, subject.call(images), subject) for subject in subjects]
        rows += measured(sides, against, batch, (224, 224), accuracy, options)
    return rows


def detectors(options: argparse.Namespace, left_out: dict[str, str]) -> list[Result]:
    few, ours = twins(300, options)
    many, _ = twins(1000, options)
    subjects = [Subject("ours", TORCH, ours.eval()), *opened(options.detector, options.threads, left_out)]
    accuracy = agreements(subjects, options)
    images = make_images(1, (SIDE, SIDE), options.photographs)
    theirs = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in images]
    sides = [
        Side(f"torchvision eager, {count} proposals", lambda peer=peer: peer([image / 255 for image in theirs]))
        for count, peer in ((300, few.eval()), (1000, many.eval()))
    ]
    peers = [side.name for side in sides]
    sides += [Side(subject.name, subject.call(images), subject) for subject in subjects]
    return measured(sides, peers, 1, (SIDE, SIDE), accuracy, options)


def twins(proposals: int, options: argparse.Namespace) -> tuple[Any, Any]:
    """torchvision's detector and ours, with the same weights whatever the number of proposals."""
    pictures = [
        torch.from_numpy(resize(picture, (SIDE, SIDE)).copy()).permute(2, 0, 1) / 255
        for picture in verification_pictures(options.photographs)[:4]
    ]
    body = read_content(Path(options.weights)).tensors
    return make_twins(50, CLASSES, SIDE, proposals=proposals, pictures=pictures, body=body, background=BACKGROUND)


def write_twin(options: argparse.Namespace) -> None:
    """Our twin in each flavour and precision, as ``export.py`` writes it, but without its gate."""
    folder: Path = options.write_twin
    save_detector(twins(300, options)[1], folder / "twin.safetensors")
    pictures = verification_pictures(options.photographs)
    for flavour, (precision, style) in itertools.product(FLAVOURS, WRITTEN):
        kind = open_exportable(ExportOptions(model=str(folder / "twin.safetensors"), flavour=flavour))
        graph = kind.graph(precision)
        model = trace(graph, kind.example, graph.outputs, kind.shapes, precision, kind.argument)
        if style:
            quantiser = Quantiser(model, kind.feeds(pictures), precision, style)
            model, _, _ = quantiser.choose(lambda candidate: candidate, lambda _: True)
        file = folder / "-".join(filter(None, ["twin", flavour, precision, style]))
        write_onnx(model, kind.metadata(precision, flavour), file.with_suffix(".onnx"))
        write_json(file.with_suffix(".json"), {"quantisation": {"style": style}})
        print(file.with_suffix(".onnx"), flush=True)


def opened(files: Sequence[str], threads: int | None, left_out: dict[str, str]) -> list[Subject]:
    """Each file in each engine that runs it; of the others the reason goes to ``left_out``."""
    subjects = []
    for file in files:
        for engine in ENGINES:
            try:
                subjects.append(open_subject(file, engine, threads))
            except InputError as reason:  # ONNX Runtime has no bf16 convolution on a processor
                left_out[f"{Path(file).name} {engine}"] = str(reason).removeprefix(f"{file}: ")
    return subjects


def measured(
    sides: Sequence[Side], peers: Sequence[str], batch: int, size: tuple[int, int],
    accuracy: dict[str, Result], options: argparse.Namespace,
) -> list[Result]:  # fmt: skip
    """A row for each side, compared with the first peer and, under ``against``, with each."""
    calls = {side.name: side.call for side in sides} | {PEAK: matrix_product()}
    turns = take_turns(calls, options.rounds, options.seconds)
    peak = turns.pop(PEAK)
    works = {side.name: multiply_adds(side.subject, size) for side in sides if side.subject is not None}
    work = next((count for count in works.values() if count), None)  # of one network in several precisions
    return [row_of(side, turns, peers, batch, work, peak, accuracy) for side in sides]


def row_of(
    side: Side, turns: dict[str, Turns], peers: Sequence[str], batch: int, work: float | None, peak: Turns,
    accuracy: dict[str, Result],
) -> Result:  # fmt: skip
    each = {peer: summarize(turns[side.name], batch, turns[peer], batch, work, peak, WORK).to_dict() for peer in peers}
    metadata = getattr(side.subject.model, "metadata", {}) if side.subject else {}
    sidecar = Path(side.subject.path).with_suffix(".json") if side.subject and metadata else None
    quantisation = json.loads(sidecar.read_text(encoding="utf-8")).get("quantisation", {}) if sidecar else {}
    precision = metadata.get("precision") or getattr(side.subject and side.subject.model, "precision", "fp32")
    task = side.subject.task if side.subject else "detection"
    target = TARGETS[task].get(batch, {}).get(precision) if metadata else None
    against = {peer: timing["ratio"] for peer, timing in each.items()}
    first = each[peers[0]]
    return {
        "name": side.name, "precision": precision, "flavour": metadata.get("flavour"),
        "style": quantisation.get("style"),
        **{key: value for key, value in first.items() if key != "ratio"},
        "times_faster": against, "target": target, "met": target and against[peers[0]]["median"] >= target,
        "accuracy": accuracy.get(side.name),
    }  # fmt: skip


def top1(subject: Subject, folder: Path) -> float:
    """Share of pictures whose class, by the name of their folder, comes first; the central crop of 224."""
    lines = (folder / "wnids_1000_sorted.txt").read_text(encoding="utf-8").splitlines()
    names = [line.split()[0] for line in lines]
    pictures = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    wanted = np.array([names.index(path.parent.name) for path in pictures])
    model = subject.model
    framed = (np.stack([frame_for_classifier(read_image(path), model.convention)]) for path in pictures)
    best = np.concatenate([model.logits(image).argmax(1) for image in framed])
    return round(float((best == wanted).mean()), 4)


def agreements(subjects: Sequence[Subject], options: argparse.Namespace) -> dict[str, Result]:
    """With our eager detector: detections that are the same, and those that are found again, less strictly."""
    files = sorted(path for path in Path(options.photographs).iterdir() if path.suffix.lower() in SUFFIXES)
    pictures = [resize(read_image(file), (SIDE, SIDE)) for file in files[: options.agreeing]]
    wanted = found_in(subjects[0], pictures)
    rows = {}
    for subject in subjects:
        found = found_in(subject, pictures)
        same = agreement(wanted, found)
        rows[subject.name] = {"agree": round(same.rate, 4), "found_again": round(found_again(wanted, found), 4),
                              "counted": same.counted}  # fmt: skip
    return rows


def found_in(subject: Subject, pictures: Sequence[Picture]) -> list[Detections]:
    found: list[Detections] = subject.model.predict(list(pictures), batch_size=1, threshold=0)
    return found


def found_again(wanted: Sequence[Detections], found: Sequence[Detections], iou: float = 0.9) -> float:
    """Share of detections with a score of at least 0.05 for which the other side has one of the class at this IoU."""
    counted = met = 0
    for first, second in zip(wanted, found, strict=True):
        real = np.asarray(first.scores) >= COUNTED_SCORE
        overlap = pairwise_iou(np.asarray(first.boxes, np.float64)[real], np.asarray(second.boxes, np.float64))
        alike = (overlap >= iou) & (np.asarray(first.labels)[real][:, None] == np.asarray(second.labels)[None])
        counted += int(real.sum())
        met += int(alike.any(1).sum())
    return met / counted if counted else 1.0


if __name__ == "__main__":
    main()
