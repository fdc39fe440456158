#!/usr/bin/env python
"""What a detector trained on the BCCD blood cells reached on photographs nobody trained on or chose by.

    python detection/train.py --backbone resnet18 --weights FILE.pth.xz --dataset voc:data/bccd/VOC2007 \\
        --recipe quick --output runs/bccd
    python detection/evaluate.py --model runs/bccd --dataset voc:data/bccd/VOC2007 --split test \\
        --output runs/bccd/test.json --report runs/bccd/report.html
    python tests/benchmarks/bccd.py runs/bccd --output results/bccd_cpu.json

Exits with 1 if a mark is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import SMALL, write_measurement
from tests.benchmarks.quickstart import training_seconds

AP50, MINUTES = 0.70, 25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    marks = json.loads((options.folder / "test.json").read_text(encoding="utf-8"))
    minutes = training_seconds(options.folder) / 60
    reached = marks["AP50"] >= AP50 and minutes <= MINUTES
    print(f"AP {marks['AP']:.4f}  AP50 {marks['AP50']:.4f} (mark {AP50})  {minutes:.1f} minutes (mark {MINUTES})")
    if options.output:
        write_measurement(
            options.output,
            what="Faster R-CNN ResNet-18 FPN from ImageNet weights on the BCCD blood cells, test split",
            command="python detection/train.py --backbone resnet18 --weights FILE.pth.xz "
            "--dataset voc:data/bccd/VOC2007 --recipe quick --output runs/bccd",
            scale=SMALL,
            target={"AP50": AP50, "minutes": MINUTES, "reached": reached},
            results={key: marks[key] for key in ("AP", "AP50", "AP75", "VOC_mAP", "per_class")} | {"minutes": minutes},
        )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
