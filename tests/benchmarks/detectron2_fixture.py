#!/usr/bin/env python
"""What detectron2 finds in one small picture, for ``tests/detection/test_detectron2.py``, which runs without it.

python tests/benchmarks/detectron2_fixture.py --detectron2 DIR --output tests/detection/detectron2_answers.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from pycocotools import mask as coco_mask

from backbones.running.atomic_write import write_text
from tests.benchmarks.detectron2_agreement import TheirDetector
from tests.detection.detectron2_weights import (
    CLASSES,
    DETECTIONS,
    LONGER,
    PROPOSALS,
    SHORTER,
    SMALL_CASES,
    small_picture,
    with_outputs,
    zoo_content,
)

CHANGES = (
    "INPUT.MIN_SIZE_TEST", SHORTER, "INPUT.MAX_SIZE_TEST", LONGER, "MODEL.ROI_HEADS.NUM_CLASSES", CLASSES,
    "MODEL.RPN.POST_NMS_TOPK_TEST", PROPOSALS, "TEST.DETECTIONS_PER_IMAGE", DETECTIONS,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectron2", action="append", default=[], help="folder to import it from, or what it needs")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    sys.path[:0] = options.detectron2
    answers = {name: answer(*case) for name, case in SMALL_CASES.items()}
    write_text(options.output, json.dumps(answers, separators=(",", ":")) + "\n")


def answer(config: str, design: str, depth: int, masks: bool) -> dict[str, Any]:
    """The output layers that make detections distinct, rounded, and with exactly those the detections."""
    theirs = TheirDetector(config, CHANGES)
    model = zoo_content(design, depth, masks, CLASSES)["model"]
    theirs.load(model)
    spread = theirs.spread([small_picture()])
    outputs = {name: (round(factor, 4), np.round(bias, 3).tolist()) for name, (factor, bias) in spread.items()}
    theirs.load(with_outputs(model, outputs))
    found = theirs.detect(small_picture())
    encoded = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in np.asarray(found.masks)]
    return {
        "outputs": outputs,
        "boxes": np.round(found.boxes.astype(float), 3).tolist(),
        "scores": np.round(found.scores.astype(float), 5).tolist(),
        "labels": found.labels.tolist(),
        "masks": [mask["counts"].decode() for mask in encoded],
    }


if __name__ == "__main__":
    main()
