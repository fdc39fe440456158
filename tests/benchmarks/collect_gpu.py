#!/usr/bin/env python
"""Take over what tours of a GPU measured: into results/, and out of the list of what was not run.

    python tests/benchmarks/collect_gpu.py DIR && make results

DIR is a tour's ``--output``, or holds the parts that ``--parts`` wrote. An item that is measured in part is taken over
and stays on the list. What a rehearsal wrote is refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.errors import InputError
from backbones.running.atomic_write import write_json
from tests.benchmarks.gpu.item import RESULTS, Item, read_json
from tests.benchmarks.gpu.items import ITEMS
from tests.benchmarks.gpu.travel import parts_in, unpack

ROOT = Path(__file__).resolve().parents[2]
OPEN = "not_run.json"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where measurements are kept")
    options = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as place:
            output = options.folder
            if parts_in(output):
                unpack(output, Path(place))
                output = Path(place)
            collected = collect(output, options.results, shown=options.folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, about in collected.items():
        print(f"{name:<18} {about.get('summary') or 'measured in part'}")
    return 0


def collect(
    output: Path, results: Path, items: Sequence[Item] = ITEMS, shown: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Copy each item's measurement to its place, and write the list of open items anew.

    Raises:
        InputError: nothing was measured, a file is damaged, or it was a rehearsal; then nothing is copied.
    """
    shown = shown or output
    if not (results / OPEN).is_file():
        raise InputError(f"--results {results}: no folder of measurements (no {OPEN} there)")
    found = {item.name: read_json(item.file(output)) for item in items if item.file(output).is_file()}
    if not found:
        raise InputError(f"{shown}: no measurements ({RESULTS}/NAME.json) and no parts of a tour here")
    for name, about in found.items():
        lacking = sorted({"item", "results", "environment", "complete", "what", "target"} - about.keys())
        if lacking or about["item"] != name:
            reason = f"lacks {', '.join(lacking)}" if lacking else f"is one of {about['item']}"
            raise InputError(f"{shown}: {RESULTS}/{name}.json is no measurement of {name} ({reason})")
    rehearsed = [name for name, about in found.items() if about.get("rehearsal")]
    if rehearsed:
        raise InputError(f"{shown}: {', '.join(rehearsed)} come from a rehearsal, whose numbers say nothing")
    for item in items:
        if item.name in found:
            write_json(results / kept_as(item), found[item.name])
    write_open(results, items)
    return found


def kept_as(item: Item) -> str:
    """Where under ``results/`` an item is kept."""
    return item.kept_as or f"gpu_{item.name}.json"


def write_open(results: Path, items: Sequence[Item]) -> None:
    """The list of what is still to be measured, in the order of a tour; what else the file says stays."""
    about = read_json(results / OPEN)
    about["items"] = [
        {"name": item.name, "what": item.what, "target": item.target}
        for item in items
        if not read_json(results / kept_as(item)).get("complete")
    ]
    write_json(results / OPEN, about)


if __name__ == "__main__":
    sys.exit(main())
