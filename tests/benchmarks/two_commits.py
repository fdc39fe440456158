#!/usr/bin/env python
"""What a change made faster or slower: an older commit's code and this tree's, in turns.

    python tests/benchmarks/two_commits.py --before 7d3e4f2 --model runs/digits-fpn
    python tests/benchmarks/two_commits.py --before 7d3e4f2 --only --model WEIGHTS.pth.xz --arch resnet50_v15 \\
        --precision fp32 int8 --engine openvino onnxruntime --size 224 224
    python tests/benchmarks/two_commits.py --before 7d3e4f2 --only --files OLD.onnx NEW.onnx --size 640 640 --batch 1

Each commit has a process for each item (``one_commit.py``); one waits while the other works. A model is exported by
each commit's own ``deploy/export.py`` with its default options, and each file runs in the engine under the code that
wrote it. Ratios are the new time over the old, turn by turn. Results of several calls gather in one file.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.errors import InputError
from backbones.running.measurement import write_measurement
from deploy.benchmarking.timing import Spread, Turns, take_turns

ROOT = Path(__file__).resolve().parents[2]
ITEMS = {
    "inference, 256 px, batch 1, fp32": ("inference", "256", "1", "fp32"),
    "inference, 480 px, batch 1, fp32": ("inference", "480", "1", "fp32"),
    "inference, 480 px, batch 1, bf16": ("inference", "480", "1", "bf16"),
    "training step, 480 px, batch 2, fp32": ("training step", "480", "2", "fp32"),
    "training step, 480 px, batch 2, bf16": ("training step", "480", "2", "bf16"),
    "targets, 480 px, batch 4, one of 504 objects": ("crowded targets", "480", "4"),
}
Row = dict[str, Any]


def main() -> None:
    options = parse()
    options.before = revision(options.before)
    results = gathered(options.output, options.before)
    with tempfile.TemporaryDirectory() as folder:
        before = tree_of(options.before, Path(folder) / "tree")
        items = {} if options.only else {name: (item, item) for name, item in ITEMS.items()}
        for name, calls in [*items.items(), *exported_items(before, Path(folder), options)]:
            results[name] = compared(before, calls, options.rounds)
            print(name, json.dumps(results[name]), flush=True)
            write_measurement(
                options.output,
                what="an older commit's code and this one's, in turns: milliseconds, and the new over the old",
                before=options.before,
                results=results,
            )


def revision(commit: str) -> str:
    """Its short hash: a name would mean another commit tomorrow."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--short", f"{commit}^{{commit}}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise InputError(f"--before {commit}: no such commit")
    return found.stdout.strip()


def gathered(path: Path, before: str) -> dict[str, Row]:
    """What earlier calls measured against the same commit."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        other, results = content["before"], dict(content["results"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not what this command writes; give another --output") from error
    if other != before:
        raise InputError(f"{path}: compares with {other}, not with {before}; give another --output")
    return results


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="COMMIT")
    parser.add_argument("--model", help="run folder or weights, to be exported by both")
    parser.add_argument("--files", type=Path, nargs=2, metavar=("OLD", "NEW"), help="exported before")
    parser.add_argument("--arch", help="of weights that do not say")
    parser.add_argument("--precision", nargs="+", default=["fp32"])
    parser.add_argument("--dataset", help="labelled, of the precisions that calibrate")
    parser.add_argument("--split", help="of it")
    parser.add_argument("--classes", help="of weights that do not say")
    parser.add_argument("--flavour", help="of both; by default each commit's default")
    parser.add_argument("--engine", nargs="+", default=["openvino"], choices=("openvino", "onnxruntime"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=(128, 128))
    parser.add_argument("--only", action="store_true", help="the exported model alone")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("results/two_commits_cpu.json"))
    options = parser.parse_args()
    if options.only and not (options.model or options.files):
        parser.error("--only: give --model or --files")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: must be at least 1")
    for file in options.files or ():
        if not file.is_file():
            parser.error(f"{file}: no such file")
    return options


def tree_of(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def exported_items(
    before: Path, folder: Path, options: argparse.Namespace
) -> Iterator[tuple[str, tuple[Sequence[str], Sequence[str]]]]:
    """By name, what either commit is asked for."""
    for title, files in pairs_of_files(before, folder, options):
        for engine in options.engine:
            for batch in options.batch:
                old, new = (["exported", str(file), engine, *map(str, (batch, *options.size))] for file in files)
                size = "x".join(map(str, options.size))
                yield f"exported {title}, {engine}, {size}, batch {batch}", (old, new)


def pairs_of_files(
    before: Path, folder: Path, options: argparse.Namespace
) -> Iterator[tuple[str, tuple[Path, Path]]]:  # fmt: skip
    """Those that are given, or written here; by name."""
    if options.files:
        yield options.files[1].stem, options.files
    for precision in options.precision if options.model else ():
        title = Path(options.model).name.split("_imagenet")[0]
        old, new = (exported(tree, folder / f"{side}-{precision}.onnx", precision, options)
                    for side, tree in (("before", before), ("after", ROOT)))  # fmt: skip
        yield ", ".join(filter(None, (title, precision, options.flavour))), (old, new)


def exported(tree: Path, file: Path, precision: str, options: argparse.Namespace) -> Path:
    """The model, by one commit's command."""
    labelled = {"dataset": options.dataset, "split": options.split} if precision == "int8" else {}
    given = {"model": options.model, "arch": options.arch, "classes": options.classes, "flavour": options.flavour,
             "precision": precision, "output": str(file), **labelled}  # fmt: skip
    words = [word for name, value in given.items() if value for word in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, str(tree / "deploy/export.py"), *words], check=False, env=environment(tree),
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise InputError(f"{options.model}: {tree.name} does not export it in {precision}")
    return file


def environment(tree: Path) -> dict[str, str]:
    """In which the packages are those of a tree."""
    return os.environ | {"PYTHONPATH": str(tree)}


def compared(before: Path, calls: tuple[Sequence[str], Sequence[str]], rounds: int) -> Row:
    """An item in turns."""
    with ExitStack() as stack:
        asks = {name: stack.enter_context(asked(tree, call))
                for name, tree, call in zip(("before", "after"), (before, ROOT), calls, strict=True)}  # fmt: skip
        turns = take_turns(asks, rounds, 0.3)
    ratios = [sum(new) / len(new) / (sum(old) / len(old))
              for new, old in zip(turns["after"], turns["before"], strict=True)]  # fmt: skip
    return {
        **{f"{name}, ms": middle(turn) for name, turn in turns.items()},
        "ratio": {name: round(value, 3) for name, value in vars(Spread.of(ratios)).items()},
    }


@contextmanager
def asked(tree: Path, call: Sequence[str]) -> Iterator[Any]:
    """A call into a process that runs under a tree."""
    worker = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/benchmarks/one_commit.py"), *call], cwd=ROOT, env=environment(tree),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdin is not None
    assert worker.stdout is not None
    sent, answers = worker.stdin, worker.stdout

    def answer(wanted: str) -> None:
        if answers.readline().strip() != wanted:
            raise InputError(f"{' '.join(call)}: failed under {tree.name}")

    def ask() -> None:
        print("go", file=sent, flush=True)
        answer("done")

    with worker:
        answer("ready")
        yield ask


def middle(turns: Turns) -> float:
    """The median turn's mean call, in milliseconds."""
    return round(Spread.of([sum(turn) / len(turn) for turn in turns]).median * 1000, 2)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
