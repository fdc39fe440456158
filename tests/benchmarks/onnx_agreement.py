#!/usr/bin/env python
"""How many detections of a trained detector its ONNX file repeats: batches of 1, 2 and 5, sizes it was not traced at.

    python deploy/export.py --model runs/bccd --format onnx
    python tests/benchmarks/onnx_agreement.py --model runs/bccd --dataset voc:data/bccd/VOC2007 --split test \\
        --output results/bccd_onnx_agreement.json

Exits with 1 if fewer than 500 detections are counted or fewer than 99.5 % agree.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import SMALL, write_measurement
from deploy.runtimes import load_runtime
from deploy.runtimes.exported_models import DetectorRuntime
from deploy.verification import verify_detector
from detection import load_detector
from detection.data.datasets import read_dataset

LEAST_COUNTED = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a run folder with model.onnx in it")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    runtime = load_runtime(options.model / "model.onnx")
    assert isinstance(runtime, DetectorRuntime)
    data, _ = read_dataset(options.dataset, options.split)
    detector = load_detector(options.model)
    detector.settings = runtime.settings  # under the same cap on proposals
    verification = verify_detector(detector, runtime, [data.pictures[number] for number in range(len(data))])
    counted, met = (sum(getattr(check, name) for check in verification.checks) for name in ("counted", "met"))
    reached = verification.passed and counted >= LEAST_COUNTED
    print(verification.summary)
    if options.output:
        write_measurement(
            options.output,
            what="detections of a trained detector and of its ONNX file: same class, IoU > 0.99, score within 1e-3",
            scale=SMALL,
            target={"rate": 0.995, "counted": LEAST_COUNTED, "reached": reached},
            results={"counted": counted, "met": met, "checks": verification.to_dict()["checks"]},
        )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
