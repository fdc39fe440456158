#!/usr/bin/env python
"""Top-1 and top-5 of published ImageNet weights on a folder of pictures, through this project's loader and framing.

    python tests/benchmarks/imagenet60.py --dataset folder:data/imagenet60 --weights-dir data/imagenet_weights \\
        --output results/imagenet60.json

Sixty pictures tell whether weights and preprocessing fit together, not how good a network is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.result_file import SMALL, write_result

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "resnet18": "resnet18_imagenet_torchvision_layout.pth.xz",
    "resnet50_v15": "resnet50_imagenet_torchvision_layout.pth.xz",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="folder:data/imagenet60")
    parser.add_argument("--weights-dir", type=Path, default=Path("data/imagenet_weights"))
    parser.add_argument(
        "--classes", default="data/imagenet60/wnids_1000_sorted.txt", help="class names in the weights' order"
    )
    parser.add_argument("--output", help="write a JSON file")
    options = parser.parse_args()
    results = {name: rates(name, options.weights_dir / file, options) for name, file in FILES.items()}
    print(json.dumps(results, indent=2))
    if options.output:
        write_result(
            options.output,
            what="published ImageNet weights on 60 ImageNet validation pictures, centre crop of 224 from side 256",
            scale=SMALL,
            results=results,
        )


def rates(name: str, weights: Path, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rates.json"
        command = [sys.executable, str(ROOT / "backbones" / "evaluate.py"), "--model", str(weights), "--arch", name,
                   "--classes", options.classes, "--dataset", options.dataset, "--output", str(output)]  # fmt: skip
        subprocess.run(command, check=True)
        measured: dict[str, float] = json.loads(output.read_text(encoding="utf-8"))
    return {key: measured[key] for key in ("top1_error", "top5_error", "images")}


if __name__ == "__main__":
    main()
