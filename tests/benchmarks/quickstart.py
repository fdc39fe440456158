#!/usr/bin/env python
"""What ``make quickstart`` reached: classifier, detector, exported detector, on digits nobody trained on.

    python tests/benchmarks/quickstart.py runs/quickstart [--output results/quickstart.json]

Exits with 1 if a mark is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import SMALL, write_measurement

CLASSIFIER_ACCURACY, AP, AP50, ONNX_DIFFERENCE = 97.0, 0.65, 0.90, 0.002


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    classifier = read(options.folder / "classifier" / "test.json")
    eager, onnx = (read(options.folder / "detector" / name) for name in ("test.json", "test_onnx.json"))
    accuracy = 100 - classifier["top1_error"]
    difference = abs(eager["AP"] - onnx["AP"])
    rows = [
        ("classifier, accuracy on unseen digits, %", accuracy, CLASSIFIER_ACCURACY, accuracy >= CLASSIFIER_ACCURACY),
        ("detector, AP on 200 unseen scenes", eager["AP"], AP, eager["AP"] >= AP),
        ("detector, AP50", eager["AP50"], AP50, eager["AP50"] >= AP50),
        ("ONNX file, AP", onnx["AP"], eager["AP"], difference <= ONNX_DIFFERENCE),
    ]
    print()
    for name, value, mark, reached in rows:
        print(f"{name:<44} {value:8.4f}   {'' if reached else f'missed: {mark}'}")
    print(f"report: {options.folder / 'report.html'}   pictures: {options.folder / 'pictures'}")
    if options.output:
        keys = ("AP", "AP50", "AP75", "VOC_mAP")
        write_measurement(
            options.output,
            what="make quickstart: ResNet-20 pretrained on digits, Faster R-CNN FPN on 200 unseen digit scenes",
            command="make quickstart",
            scale=SMALL,
            target={"reached": all(reached for *_, reached in rows)},
            results={
                "classifier_accuracy": accuracy,
                "detector": {key: eager[key] for key in keys},
                "onnx": {key: onnx[key] for key in keys},
                "training_seconds": {
                    name: training_seconds(options.folder / name) for name in ("classifier", "detector")
                },
            },
        )
    return 0 if all(reached for *_, reached in rows) else 1


def read(path: Path) -> dict[str, float]:
    return json.loads(path.read_text())


def training_seconds(run: Path) -> float:
    """From the first to the last line of a run's log, evaluations included."""
    stamps = [line[:19] for line in (run / "log.txt").read_text().splitlines() if line[:2] == "20"]
    first, last = (time.mktime(time.strptime(stamp, "%Y-%m-%d %H:%M:%S")) for stamp in (stamps[0], stamps[-1]))
    return last - first


if __name__ == "__main__":
    sys.exit(main())
