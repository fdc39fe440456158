#!/usr/bin/env python
"""What each improvement of appendix B, and today's alternatives, change in AP, and what they cost in time.

    python tests/benchmarks/improvements.py --model runs/bccd --dataset voc:data/bccd/VOC2007 --split test \\
        --context runs/bccd-context --others runs/bccd-1 runs/bccd-2 --output results/improvements_bccd.json
    python tests/benchmarks/improvements.py --model runs/bccd-600-plain --dataset voc:data/bccd/VOC2007 --split test \\
        --only "global context" --context runs/bccd-600-context --without-context runs/bccd-600-plain \\
        --output results/improvements_bccd_context.json

Detectors are trained beforehand: the baseline, one with ``--context`` (its like without it is the baseline, or
``--without-context``), others of other seeds for the ensemble; the short ones above with ``--recipe quick --images 600
--shorter 256 --test-shorter 256``. Every row is measured on the same pictures in the same run; times are the
processor's, over the baseline's just before.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import SMALL, write_measurement
from detection.building import load_detector
from detection.data.annotations import DetectionData
from detection.data.datasets import read_dataset
from detection.detector import Detector
from detection.evaluation import detect_all, score
from detection.improvements.framed_views import ViewSettings
from detection.improvements.improved_detector import ImprovedDetector

BATCH = 4
REFINED = {"refine": True, "vote": 0.5, "nms_threshold": 0.3}
PAPER = {
    "box refinement and voting": 2.7,
    "global context": 0.1,
    "maxout over scales": 2.5,
    "ensemble": 2.5,
}
"""AP points on COCO with ResNet-101 that the paper reports for each step, one on top of the other (Table 9)."""


def main() -> None:
    options = parse()
    detector = load_detector(options.model)
    data, _ = read_dataset(options.dataset, options.split)
    data = replace(data, annotations=data.annotations.relabelled(detector.classes))
    own = detector.settings.input.shorter
    maxout = tuple(options.maxout or (round(own * part / 6 / 32) * 32 for part in (2, 4, 6, 8, 10)))
    scales = tuple(options.scales or (round(own * part / 32) * 32 for part in (0.75, 1.0, 1.25)))
    none = ViewSettings()
    rows: dict[str, tuple[list[Detector], ViewSettings, dict[str, Any]]] = {
        "baseline": ([detector], none, {}),
        "box refinement": ([detector], none, {"refine": True, "nms_threshold": 0.3}),
        "box voting": ([detector], none, {"vote": 0.5}),
        "box refinement and voting": ([detector], none, REFINED),
        "maxout over scales": ([detector], ViewSettings(maxout=maxout), {}),
        "refinement, voting, maxout": ([detector], ViewSettings(maxout=maxout), REFINED),
        "soft suppression": ([detector], none, {"soft": 0.5}),
        "mirror image": ([detector], ViewSettings(flip=True), {}),
        "pooled scales": ([detector], ViewSettings(scales=scales), {}),
    }
    beside = {}
    if options.context:
        rows["global context"] = ([load_detector(options.context)], none, {})
        if options.without_context:
            beside["global context"] = ([load_detector(options.without_context)], none, {})
    if options.others:
        rows["ensemble"] = ([detector, *map(load_detector, options.others)], none, {})
    results: dict[str, dict[str, float]] = {}
    for name, row in rows.items():
        if options.only and name not in options.only:
            continue
        base, seconds = measure(*beside.get(name, rows["baseline"]), data)  # anew: what else runs slows both alike
        marks, taken = measure(*row, data)
        results[name] = {**marks, "gain": 100 * (marks["AP"] - base["AP"]), "time": taken / seconds}
        print(f"{name:28}", "  ".join(f"{key} {value:.3f}" for key, value in results[name].items()), flush=True)
    if options.output:
        write_measurement(
            options.output,
            what=f"improvements of appendix B on {options.dataset} {options.split}, {len(data)} pictures",
            scale=SMALL,
            settings={"maxout": list(maxout), "scales": list(scales), "backbone": detector.settings.backbone,
                      "head": detector.settings.head, "ensemble of": 1 + len(options.others)},
            paper=PAPER,
            results=results,
        )  # fmt: skip


def measure(
    detectors: list[Detector], views: ViewSettings, changes: dict[str, Any], data: DetectionData
) -> tuple[dict[str, float], float]:
    """AP and AP50, and the processor's seconds, which other work on the machine does not change."""
    first = detectors[0]
    before = first.settings
    first.settings = replace(before, output=replace(before.output, **changes))
    start = time.process_time()
    found = detect_all(ImprovedDetector(detectors, views).predict_each, data, BATCH)
    seconds = time.process_time() - start
    first.settings = before
    metrics = score(found, data.annotations).metrics
    return {"AP": metrics["AP"], "AP50": metrics["AP50"]}, seconds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--split", default="test")
    parser.add_argument("--context", help="a detector trained with --context")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="leave out the others")
    parser.add_argument("--without-context", help="its like without, if that is not the baseline")
    parser.add_argument("--others", nargs="*", default=[], help="detectors of other seeds")
    parser.add_argument("--maxout", type=int, nargs="*", help="shorter sides; by default a third to five thirds of own")
    parser.add_argument("--scales", type=int, nargs="*", help="shorter sides; by default 3/4, 1 and 5/4 of the own")
    parser.add_argument("--output", help="write a JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
