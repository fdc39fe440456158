#!/usr/bin/env python
"""Top-1 and top-5 of published ImageNet weights on a folder of pictures, under the paper's three test protocols.

    python tests/benchmarks/imagenet60.py --output results/imagenet60.json

Sixty pictures tell whether weights, preprocessing and protocols fit together, not how good a network is: one picture
is 1.7 points. Where ten crops do worse than the central one, the pictures are named, with their scores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import SMALL, write_measurement

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "resnet18": "resnet18_imagenet_torchvision_layout.pth.xz",
    "resnet50_v15": "resnet50_imagenet_torchvision_layout.pth.xz",
}
PROTOCOLS = ("center", "10-crop", "multi-scale")
RATES = ("top1_error", "top5_error")
Picture = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="folder:data/imagenet60")
    parser.add_argument("--weights-dir", type=Path, default=Path("data/imagenet_weights"))
    parser.add_argument(
        "--classes", default="data/imagenet60/wnids_1000_sorted.txt", help="class names in the weights' order"
    )
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    results = {name: under_each_protocol(name, options) for name in FILES}
    together = {"models": list(FILES), "center": evaluate(list(FILES), "center", options)[0]}
    print(json.dumps(results, indent=2))
    if options.output:
        write_measurement(
            options.output,
            what="published ImageNet weights on 60 ImageNet validation pictures; centre crop of 224 from side 256, "
            "and under 'protocols' the others",
            scale=SMALL,
            ensemble=together,
            results=results,
        )


def under_each_protocol(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The centre crop's rates, those of every protocol, and how ten crops compare with one."""
    measured = {protocol: evaluate([name], protocol, options) for protocol in PROTOCOLS}
    rates = {protocol: found[0] for protocol, found in measured.items()}
    one, ten = measured["center"], measured["10-crop"]
    kept = {rate: ten[0][rate] <= one[0][rate] for rate in RATES}
    comparison = {
        "at_least_as_good": kept,
        "pictures_that_changed": changed(one[1], ten[1]),
    }
    return {**rates["center"], "protocols": rates, "ten_crops_against_one": comparison}


def changed(one: list[Picture], ten: list[Picture]) -> list[dict[str, Any]]:
    """Pictures whose class enters or leaves the first place or the first five."""
    return [
        {"picture": before["picture"], "class": before["class"], "center": shown(before), "10-crop": shown(after)}
        for before, after in zip(one, ten, strict=True)
        if any((before["rank"] <= places) != (after["rank"] <= places) for places in (1, 5))
    ]


def shown(picture: Picture) -> dict[str, Any]:
    return {key: picture[key] for key in ("rank", "score", "best", "best_score")}


def evaluate(names: list[str], protocol: str, options: argparse.Namespace) -> tuple[dict[str, Any], list[Picture]]:
    """Rates by the command, and its line for each picture."""
    with tempfile.TemporaryDirectory() as folder:
        output, predictions = Path(folder) / "rates.json", Path(folder) / "predictions.jsonl"
        weights = [str(options.weights_dir / FILES[name]) for name in names]
        command = [sys.executable, str(ROOT / "backbones" / "evaluate.py"), "--model", *weights, "--arch", *names,
                   "--classes", options.classes, "--dataset", options.dataset, "--split", "all", "--protocol", protocol,
                   "--output", str(output), "--predictions", str(predictions)]  # fmt: skip
        subprocess.run(command, check=True)
        measured = json.loads(output.read_text(encoding="utf-8"))
        lines = predictions.read_text(encoding="utf-8").splitlines()
    return {key: measured[key] for key in (*RATES, "images")}, [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
