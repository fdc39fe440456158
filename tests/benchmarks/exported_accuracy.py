#!/usr/bin/env python
"""AP, top-1 or mIoU of a trained model and of its exported files, through each engine, on data that no gate saw.

    python tests/benchmarks/exported_accuracy.py --model runs/bccd --dataset voc:data/bccd/VOC2007 --gate-split trainval
    python tests/benchmarks/exported_accuracy.py --model runs/digits-fpn runs/digits-c4 --gate-split train
    python tests/benchmarks/exported_accuracy.py --model WEIGHTS.pth.xz --arch resnet18 --split all --gate-split all \\
        --classes data/imagenet60/wnids_1000_sorted.txt --dataset folder:data/imagenet60

Each precision is exported by ``deploy/export.py`` with ``--dataset``, so the choice of layers left in higher precision
is made on the gate's split; ``--split`` is read once, afterwards. The gate asks what the file loses against the trained
model, not how good that is on new pictures: training pictures will do, and the more there are, the less chance moves
the answer. With sixty in all, one is 1.7 points: there ``--gate-split all`` lets the choice see them. Results of
several calls gather in one file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.errors import InputError
from backbones.running.measurement import SMALL, write_measurement
from deploy import load_runtime
from deploy.export_options import ExportOptions
from deploy.exportable import open_exportable
from deploy.gates import GATES
from deploy.precision.accuracy import LabelledData

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("openvino", "onnxruntime")
Row = dict[str, Any]


def main() -> None:
    options = parse()
    results = gathered(options.output)
    for model in options.model:
        name = Path(model).name.split("_imagenet")[0]
        results[name] = {**results.get(name, {}), **measured(model, options)}
        write_measurement(
            options.output,
            what="a trained model and its exported files on labelled data, in per cent, and how many detections agree",
            scale=SMALL,
            results=results,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True, help="run folders or weights")
    parser.add_argument("--arch", help="of weights that do not say")
    parser.add_argument("--classes", help="of weights that do not say")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--split", default="test", help="what the marks are read on")
    parser.add_argument("--gate-split", help="what export.py chooses layers on")
    parser.add_argument("--precision", nargs="+", default=["fp32", "fp16", "bf16", "int8"], choices=GATES)
    parser.add_argument("--folder", type=Path, default=Path("runs/exported"), help="where the files go")
    parser.add_argument("--output", type=Path, default=Path("results/exported_accuracy.json"))
    return parser.parse_args()


def gathered(path: Path) -> dict[str, dict[str, Row]]:
    """What earlier calls measured."""
    results: dict[str, dict[str, Row]] = (
        json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
    )
    return results


def measured(model: str, options: argparse.Namespace) -> dict[str, Row]:
    """A row for each precision."""
    kind = open_exportable(ExportOptions(model=model, arch=options.arch, classes=options.classes))
    data = LabelledData(kind.judged, options.dataset, options.split, None)
    rows = {}
    for precision in options.precision:
        file = options.folder / f"{Path(model).name.split('_imagenet')[0]}-{precision}.onnx"
        begun = time.perf_counter()
        about = exported(model, precision, file, options)
        row: Row = {"minutes": round((time.perf_counter() - begun) / 60, 1)} | about
        if "refused" not in about:
            row["marks"] = marks(data, file, precision)
        print(file.stem, json.dumps(row), flush=True)
        rows[precision] = row
    return rows


def exported(model: str, precision: str, file: Path, options: argparse.Namespace) -> Row:
    """Export by the command, as a user would; what its sidecar says of agreement and of layers left alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "deploy/export.py"), "--model", model, "--precision", precision]
    command += ["--output", str(file), "--dataset", options.dataset, "--quiet"]
    command += ["--split", options.gate_split] if options.gate_split else []
    command += [
        part for flag in ("arch", "classes") if (value := getattr(options, flag)) for part in (f"--{flag}", value)
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"refused": done.stderr.strip().splitlines()[-1]}
    about = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    checks = about["verification"]["checks"]
    row: Row = {
        "engines": sorted({check["engine"] for check in checks}),
        "megabytes": round(file.stat().st_size / 1e6, 1),
    }
    row["batches"], row["sizes"] = sorted({c["batch"] for c in checks}), sorted({tuple(c["size"]) for c in checks})
    if counted := sum(check["counted"] for check in checks):
        row |= {"counted": counted, "agree": sum(check["met"] for check in checks)}
    if logits := [check["differences"]["logits"] for check in checks if "logits" in check["differences"]]:
        row["logits"] = max(logits)
    row["gate"] = about["accuracy"]
    if quantisation := about.get("quantisation"):
        row["quantisation"] = {key: value for key, value in quantisation.items() if key != "ranking"}
    return row


def marks(data: LabelledData, file: Path, precision: str) -> dict[str, Row]:
    """Through each engine that runs the precision."""
    found: dict[str, Row] = {}
    for engine in (name for name in ENGINES if find_spec(name)):
        try:
            seen = data.compare(load_runtime(file, engine=engine))
        except InputError as reason:  # ONNX Runtime has no bf16 convolution on a processor
            found[engine] = {"refused": str(reason)}
            continue
        allowed = GATES[precision].loss
        found[engine] = {
            "metric": seen.metric, "trained": seen.trained, "exported": seen.exported, "loss": seen.loss,
            "allowed": allowed, "met": seen.loss <= allowed, "images": seen.images,
        }  # fmt: skip
    return found


if __name__ == "__main__":
    main()
