#!/usr/bin/env python
"""Take over what tours of a GPU measured: into results/, and out of the list of what was not run.

    python tests/benchmarks/collect_gpu.py DIR && make results

DIR is a tour's ``--output``, or holds the parts that ``--parts`` wrote. An item that is measured in part is taken over
and stays on the list, unless what is kept of it is whole. What a rehearsal wrote is refused.
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

    Returns:
        what was taken over.

    Raises:
        InputError: nothing was measured, a file is damaged, or it was a rehearsal; then nothing is copied.
    """
    shown = shown or output
    if not (results / OPEN).is_file():
        raise InputError(f"--results {results}: no folder of measurements (no {OPEN} there)")
    read_json(results / OPEN)
    known = {item.name: read_json(results / kept_as(item)) for item in items}
    found = {item.name: read_json(item.file(output)) for item in items if item.file(output).is_file()}
    if not found:
        raise InputError(f"{shown}: no measurements ({RESULTS}/NAME.json) and no parts of a tour here")
    for name, about in found.items():
        reason = _no_measurement(about, name)
        if reason:
            raise InputError(f"{shown}: {RESULTS}/{name}.json is no measurement of {name} ({reason})")
    rehearsed = [name for name, about in found.items() if about.get("rehearsal")]
    if rehearsed:
        raise InputError(f"{shown}: {', '.join(rehearsed)} come from a rehearsal, whose numbers say nothing")
    for name in [name for name, about in found.items() if known[name].get("complete") and not about["complete"]]:
        print(f"{name:<18} measured in part; what is kept of it is whole, and stays")
        del found[name]
    for item in items:
        if item.name in found:
            write_json(results / kept_as(item), found[item.name])
    write_open(results, items)
    return found


def _no_measurement(about: dict[str, Any], name: str) -> str:
    """What is wrong with a file; nothing if it is an item's measurement."""
    lacking = sorted({"item", "results", "environment", "complete", "what", "target"} - about.keys())
    lacking += ["summary"] if about.get("complete") and "summary" not in about else []
    if lacking:
        return f"lacks {', '.join(lacking)}"
    if about["item"] != name:
        return f"is one of {about['item']}"
    kinds = {"environment": dict, "complete": bool}
    wrong = [key for key, kind in kinds.items() if not isinstance(about[key], kind)]
    wrong += ["results"] if about["results"] is None else []
    return f"its {wrong[0]} is damaged" if wrong else ""


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
