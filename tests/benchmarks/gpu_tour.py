#!/usr/bin/env python
"""Everything that this project wants to know of a GPU, measured in few minutes, over as many days as it takes.

    python tests/benchmarks/gpu_tour.py --minutes 9 --data DIR --output DIR
    python tests/benchmarks/gpu_tour.py --rehearse --output DIR               # every item, tiny, on the CPU

Items run in order of value for their time, each in a process of its own with a limit of its own, and write
``DIR/results/NAME.json`` as soon as a number is there. One that hangs or crashes costs its limit and no more. What is
measured is not measured again; the recipes of the CIFAR networks go on from their states. A table comes last.

``--data`` has any of these; an item whose data is not there says so in the table.

    cifar10_jpeg/      18 MB   resnet20, plain20, plain56, resnet56, resnet110, resnet1202
    coco100/           17 MB   coco_training, r101_c4
    bccd/VOC2007/      10 MB   bccd_0, bccd_1, bccd_2
    imagenet_weights/   4 MB   resnet50*.pth.xz: coco_training, bccd_0, bccd_1, bccd_2
    plans/                     *.plan, *.plan.json and *.onnx, as deploy/export.py --format tensorrt has them: engines

The machine needs the library that built the engines, and a card that it knows: TensorRT-RTX 1.7 names capabilities 7.5,
8.0, 8.6, 8.9 and 12 (not an H100's or H200's 9.0). A rehearsal takes its ONNX files from there. Sets that a rehearsal
lacks it makes, below its own output; with real ones it is not short.

It needs Python 3.12, torch 2.11, torchvision 0.26, numpy, pillow, pyyaml, safetensors, scikit-learn, matplotlib, rich
and onnxruntime; pycocotools, defusedxml, simplejpeg and hotcoco may come as wheels. No network.

On a machine with a GPU that has a copy of this tree, is reached for minutes, and keeps nothing:

1. Here, put what it shall have into folders that git ignores:

       mkdir -p data build/wheels && cp -r SETS/{cifar10_jpeg,coco100,bccd,imagenet_weights} data/
       python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \\
           --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d build/wheels \\
           pycocotools defusedxml simplejpeg hotcoco
       git describe --always --abbrev=10 --dirty=+ --exclude='*'              # REVISION, below

2. There, with ``data``, ``build/wheels`` and, from the second tour on, ``build/parts`` copied, and RETURNED a folder
   whose files come back:

       python tests/benchmarks/gpu_tour.py --minutes 9 --data data --wheels build/wheels --go-on build/parts \\
           --output build/tour --parts RETURNED --commit REVISION

   RETURNED holds at most eight files of 16 MiB, written anew after each item: results, logs, and the states of recipes
   that are not finished.

3. Here, put RETURNED's files into ``build/parts`` in place of those that are there, and

       python tests/benchmarks/collect_gpu.py build/parts && make results
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.errors import InputError
from backbones.running.atomic_write import write_json
from backbones.running.command_line import FAILED, INTERRUPTED
from backbones.running.measurement import write_measurement
from tests.benchmarks.gpu.packages import hide_absent_packages, use_wheels

if TYPE_CHECKING:
    from tests.benchmarks.gpu.item import Item, Place

BEGUN = time.monotonic()
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking whether there is a GPU must not begin to use it
RESERVE = 4.0
"""Seconds of a tour that its end takes."""
DONE, BEFORE = "done", "done before"
REHEARSED = "; a rehearsal: what it found says nothing"
_PATIENCE = 5  # a rehearsal may share few slow cores with much else


@dataclass(frozen=True)
class Row:
    """What became of an item: its status, the seconds that it took, and what it found or what its log says last."""

    item: str
    status: str
    seconds: float
    message: str


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that an item in flight ends with the tour
    try:
        rows = run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    print("\n".join(table(rows)))
    done = sum(row.status in (DONE, BEFORE) for row in rows)
    print(f"{done} of {len(rows)} items done{REHEARSED if options.rehearse else ''}")
    if options.summary:
        write_summary(options.summary, rows, options.rehearse)
    return FAILED if any(row.status == "failed" for row in rows) else 0


def write_summary(path: Path, rows: Sequence[Row], rehearsed: bool) -> None:
    """What became of each item; of a rehearsal without what it found, which says nothing."""
    kind = "a rehearsal, in tiny sizes on a CPU, of the tour of a GPU" if rehearsed else "the tour of a GPU"
    results = {row.item: asdict(row) for row in rows}
    for name, result in results.items():
        del result["item"]
        if rehearsed and result["status"] == "done":
            del results[name]["message"]
    write_measurement(path, what=f"{kind}: what became of each item, and seconds", results=results)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="from the start of this process")
    parser.add_argument("--data", type=Path, help="what there is to train on; a rehearsal makes its own where none is")
    parser.add_argument("--output", type=Path, required=True, help="of this tour and of earlier ones")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these items")
    parser.add_argument("--rehearse", action="store_true", help="every item in tiny sizes, on the CPU")
    parser.add_argument("--backend", default="none", help="torch.compile's in a rehearsal; none compiles nothing")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="packages to import that are not installed")
    parser.add_argument("--go-on", type=Path, metavar="DIR", help="parts that an earlier tour left, if there are any")
    parser.add_argument("--parts", type=Path, metavar="DIR", help="write what is to be kept here, in few files")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the table as a measurement")
    parser.add_argument("--commit", default="", help="the revision, where the tree has no history with it")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> list[Row]:
    """Prepare, and measure until the time is over.

    Raises:
        InputError: there is no GPU, or something given can't be used.
    """
    if not options.minutes > 0:
        raise InputError(f"--minutes {options.minutes}: must be above zero")
    for name in ("output", "data", "wheels", "go_on", "parts"):
        path, must_exist = getattr(options, name), name in ("data", "wheels")
        if path is not None and not path.is_dir() and (must_exist or path.exists()):
            raise InputError(f"--{name.replace('_', '-')} {path}: no such folder")
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if options.wheels:
        use_wheels(options.wheels, output / "site")
    if options.rehearse:
        hide_absent_packages()
    from tests.benchmarks.gpu.data import rehearsal_data
    from tests.benchmarks.gpu.item import Place
    from tests.benchmarks.gpu.items import ITEMS
    from tests.benchmarks.gpu.travel import parts_in, take_over, unpack

    unknown = set(options.only or ()) - {item.name for item in ITEMS}
    if unknown:
        raise InputError(f"--only: no item is named {', '.join(sorted(unknown))}")
    if not options.rehearse:
        _require_gpu()
    _refuse_mixing(output, options.rehearse)
    if options.go_on and parts_in(options.go_on):
        with tempfile.TemporaryDirectory() as folder:
            unpack(options.go_on, Path(folder))
            _refuse_mixing(Path(folder), options.rehearse, options.go_on)
            take_over(Path(folder), output)
    data = rehearsal_data(options.data, output / "data-made") if options.rehearse else (options.data or output)
    data = data.resolve()
    items = [item for item in ITEMS if not options.only or item.name in options.only]
    device = "cpu" if options.rehearse else "cuda"
    place = Place(device, data, output, options.rehearse, options.commit, options.backend)
    return tour(items, place, BEGUN + 60 * options.minutes, options.parts)


def tour(items: Sequence[Item], place: Place, end: float, parts: Path | None = None) -> list[Row]:
    """Measure what is open, item by item, those that failed before after the others.

    The process that calls this must not have used a GPU: items are forked from it, with all that it has imported. Where
    the first one fails, it is tried again in a fresh process, and if that is the remedy, the others run so.

    Args:
        items: in order of their value.
        place: where.
        end: when the tour is over, on ``time.monotonic``'s clock.
        parts: folder for what is to be kept.

    Returns:
        a row for each item, in the order of ``items``.
    """
    from tests.benchmarks.gpu import processes
    from tests.benchmarks.gpu.travel import STATUS, pack

    known = _statuses(place.output / STATUS)
    failed = {name for name, row in known.items() if row.status in (processes.FAILED, processes.TIMEOUT)}
    method, tried = "fork", False
    for item in sorted(items, key=lambda item: item.name in failed and not item.goes_on):
        left = end - RESERVE - time.monotonic()
        if item.done(place.output):
            known[item.name] = _finished(item, place, known)
            continue
        reason = item.missing(place) or ("" if left >= item.least else "no time left")
        if reason:
            if item.name not in failed:  # what is known of a failure stays
                known[item.name] = Row(item.name, processes.SKIPPED, 0.0, reason)
            continue
        print(f"{item.name}: {item.what}", flush=True)
        row = _run(item, place, left, method)
        if row.status == processes.FAILED and not tried and left - row.seconds >= item.least:
            again = _run(item, place, left - row.seconds, "spawn")
            if again.status != processes.FAILED:
                row, method = again, "spawn"
        tried = True
        known[item.name] = row
        print(f"{row.status} after {row.seconds:.0f} s: {row.message}", flush=True)
        write_json(place.output / STATUS, {name: asdict(row) for name, row in known.items()})
        if parts:
            pack(place.output, parts)
    write_json(place.output / STATUS, {name: asdict(row) for name, row in known.items()})
    return [known[item.name] for item in items]


def _statuses(path: Path) -> dict[str, Row]:
    """What earlier tours noted."""
    from tests.benchmarks.gpu.item import read_json

    try:
        known = {name: Row(**row) for name, row in read_json(path).items()}
        if not all(isinstance(row.status + row.message, str) and row.seconds >= 0 for row in known.values()):
            raise TypeError
    except TypeError as error:
        raise InputError(f"{path}: damaged; delete it, and it is made again") from error
    return known


def _run(item: Item, place: Place, left: float, method: str) -> Row:
    from tests.benchmarks.gpu import processes
    from tests.benchmarks.gpu.items import measure
    from tests.benchmarks.gpu.travel import LOGS

    log = place.output / LOGS / f"{item.name}.log"
    limit = min(item.limit * place.size(1, _PATIENCE), left)
    outcome = processes.run_apart(measure, (item, place), log, limit, asked_first=item.goes_on, method=method)
    if outcome.status == processes.DONE and not item.done(place.output):
        return Row(item.name, processes.FAILED, round(outcome.seconds, 1), f"ended without a result: {outcome.message}")
    return Row(item.name, outcome.status, round(outcome.seconds, 1), outcome.message)


def _finished(item: Item, place: Place, known: dict[str, Row]) -> Row:
    from tests.benchmarks.gpu.item import read_json

    seconds = known[item.name].seconds if item.name in known else 0.0
    return Row(item.name, BEFORE, seconds, str(read_json(item.file(place.output))["summary"]))


def _refuse_mixing(output: Path, rehearse: bool, shown: Path | None = None) -> None:
    """A rehearsal's numbers must not stand for a tour's, nor its trainings be gone on with."""
    from tests.benchmarks.gpu.item import RESULTS, read_json

    files = sorted((output / RESULTS).glob("*.json"))
    others = [path for path in files if bool(read_json(path).get("rehearsal")) != rehearse]
    if others:
        kind = "a tour of a GPU" if rehearse else "a rehearsal"
        remedy = "leave out --go-on" if shown else "choose another --output"
        raise InputError(f"{shown or output}: holds results of {kind} ({others[0].name}); {remedy}")


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise InputError("torch sees no GPU; --rehearse tries everything on the CPU")
    if torch.cuda.is_initialized():
        raise InputError("an import has begun to use the GPU, so that nothing can be forked from this process")


def table(rows: Sequence[Row]) -> list[str]:
    """As text, as wide as the terminal."""
    room = max(40, shutil.get_terminal_size((160, 24)).columns - 42)
    lines = [f"{'item':<18} {'status':<12} {'s':>6}  what it found"]
    return lines + [f"{row.item:<18} {row.status:<12} {row.seconds:>6.0f}  {row.message[:room]}" for row in rows]


if __name__ == "__main__":
    sys.exit(main())
