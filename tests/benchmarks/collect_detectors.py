#!/usr/bin/env python
"""Small detectors' marks on pictures that nobody trained on or chose by, from their run folders, as one file.

    python detection/train.py --dataset digits --head c4 --weights runs/quickstart/classifier --output runs/digits-c4
    python detection/evaluate.py --model runs/digits-c4 --dataset digits --split test --output runs/digits-c4/test.json
    python tests/benchmarks/collect_detectors.py runs/digits-c4 runs/digits-masks --output results/digits_detectors.json

Minutes are those of the log, evaluations included, on a machine that may have had other work.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import SMALL, write_measurement
from tests.benchmarks.quickstart import training_seconds

MARKS = ("AP", "AP50", "mask_AP", "mask_AP50")
SETTINGS = (
    "dataset",
    "backbone",
    "head",
    "recipe",
    "images",
    "batch_size",
    "weights",
    "masks",
    "context",
    "test_shorter",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    results = {folder.name: entry(folder) for folder in options.folders}
    for name, found in results.items():
        print(name, found)
    if options.output:
        write_measurement(options.output, what="small detectors, test splits", scale=SMALL, results=results)


def entry(folder: Path) -> dict[str, Any]:
    """Marks, minutes and settings of one run."""
    marks = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return {
        **{key: marks[key] for key in MARKS if key in marks},
        "images": marks["images"],
        "minutes": training_seconds(folder) / 60,
        "settings": {key: _named(config[key]) for key in SETTINGS if config.get(key) not in (None, False)},
    }


def _named(value: Any) -> Any:
    """Files by their names, not by where they lie."""
    return Path(value).name if isinstance(value, str) and "/" in value and ":" not in value else value


if __name__ == "__main__":
    main()
