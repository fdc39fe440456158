#!/usr/bin/env python
"""What the cap of exported files on proposals costs: AP with the paper's 6,000 boxes before suppression and with 3,840.

    python tests/benchmarks/proposal_cap.py --model runs/digits-c4 --output results/proposal_cap.json

The detector must have more anchors than 6,000 in its pictures, or nothing is cut; the paper's 300 regions follow
(section 4.1 of Ren et al. 2015). Only the trained model is asked: an exported file repeats it under the same cap.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import SMALL, write_measurement
from deploy.graphs import capped
from detection import load_detector
from detection.data.datasets import read_dataset
from detection.evaluation import detect_all, score
from detection.settings import ProposalSettings

PAPER = ProposalSettings(before_nms=6000, after_nms=300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a run folder")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    data, _ = read_dataset(options.dataset, options.split)
    detector = load_detector(options.model).eval()
    paper = replace(detector.settings, test_proposals=PAPER)
    rows = {}
    for settings in (paper, capped(paper)):
        detector.settings = settings
        found = detect_all(detector.predict_each, data, 8)
        rows[str(settings.test_proposals.before_nms)] = round(100 * score(found, data.annotations).metrics["AP"], 3)
    print(rows)
    if options.output:
        write_measurement(
            options.output,
            what="AP in per cent by the number of boxes before suppression, 300 after it",
            scale=SMALL,
            results={"model": Path(options.model).name, "images": len(data), "AP": rows},
        )


if __name__ == "__main__":
    main()
