#!/usr/bin/env python
"""Write the tables of docs/results.md from the measured numbers: ``python results/paper_tables.py [--check]``.

Beside the paper's columns stand only measurements on the paper's data, under its recipe and protocol; whatever else
was measured has a table of its own.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from results.machines import card, processor
from results.paper_columns import MULTIPLY_ADDS, TABLE_2, TABLE_3, TABLE_4, TABLE_6

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
MEASURED = ROOT / "results"
NAMES = {"a": " A", "b": " B", "c": " C", "v15": " v1.5"}
OPTION_B = ("resnet34",)
"""Networks whose shortcut option the paper prints, though their name here leaves it out."""
TEN_CROP, MULTI_SCALE, CENTER = "10-crop", "multi-scale", "center"


@dataclass(frozen=True)
class PaperData:
    """What a measurement must be to stand beside the paper's: the whole evaluated split, and the recipe's numbers."""

    split: str
    images: int
    batch_size: int
    iterations: int
    schedules: tuple[str | None, ...]
    milestones: tuple[list[float] | None, ...]


PAPER_DATA = {
    "cifar10": PaperData("test", 10_000, 128, 64_000, (None, "step"), (None, [], [0.5, 0.75])),
    "imagenet": PaperData("val", 50_000, 256, 600_000, (None, "plateau"), (None, [])),
}


@dataclass(frozen=True)
class Results:
    """Everything measured: each network's size, and entries as ``tests/benchmarks/collect_runs.py`` writes them."""

    complexity: Mapping[str, Mapping[str, int]]
    entries: Sequence[Mapping[str, Any]]


def read_results(folder: Path) -> Results:
    """Read ``complexity.json`` and ``classification/*.json``, as far as they exist."""
    complexity: dict[str, Any] = {}
    if (folder / "complexity.json").is_file():
        complexity = json.loads((folder / "complexity.json").read_text(encoding="utf-8"))["results"]
    entries = []
    for path in sorted((folder / "classification").glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        environment = file["environment"]
        about = {"gpu": environment["gpu"] and card(environment), "processor": processor(environment)}
        entries += [{**entry, **about} for entry in file["results"]]
    return Results(complexity, entries)


def is_papers(entry: Mapping[str, Any]) -> bool:
    """Whether an entry may stand beside the paper's column: its data, whole, under its recipe."""
    data, settings = PAPER_DATA.get(entry["dataset"]), entry["settings"]
    return (
        data is not None
        and (entry["split"], entry["images"]) == (data.split, data.images)
        and settings.get("recipe") == "paper"
        and settings.get("batch_size") == data.batch_size
        and settings.get("iterations") == data.iterations
        and settings.get("learning_rate") in (None, 0.1)
        and settings.get("schedule") in data.schedules
        and settings.get("milestones") in data.milestones
        and not settings.get("synthetic")
        and not settings.get("weights")
    )


def table_1(results: Results) -> list[str]:
    """Parameters and multiply-adds."""
    rows = ["| network | parameters | multiply-adds | paper, 1e9 | ratio |", "|---|---|---|---|---|"]
    for name, paper in MULTIPLY_ADDS.items():
        found = results.complexity.get(name)
        cells = ("", "", "")
        if found:
            count = found["multiply_adds"]
            cells = (f"{found['parameters']:,}", f"{count:,}", f"{count / (paper * 1e9):.3f}")
        rows.append(f"| {called(name)} | {cells[0]} | {cells[1]} | {paper} | {cells[2]} |")
    return rows


def table_2(results: Results) -> list[str]:
    """Plain against residual, without extra parameters."""
    rows = ["| layers | plain: paper | measured | residual (A): paper | measured |", "|---|---|---|---|---|"]
    for layers in (18, 34):
        cells = []
        for name in (f"plain{layers}", f"resnet{layers}_a"):
            cells += [f"{TABLE_2[name]:.2f}", imagenet_error(results, name, TEN_CROP, "top1_error")]
        rows.append(f"| {layers} | {' | '.join(cells)} |")
    return rows


def table_3(results: Results) -> list[str]:
    """10-crop."""
    return imagenet_table(results, TABLE_3, TEN_CROP)


def table_4(results: Results) -> list[str]:
    """Multi-scale, single models."""
    return imagenet_table(results, TABLE_4, MULTI_SCALE)


def imagenet_table(results: Results, paper: Mapping[str, tuple[float, float]], protocol: str) -> list[str]:
    rows = ["| network | top-1: paper | measured | top-5: paper | measured |", "|---|---|---|---|---|"]
    for name, (top1, top5) in paper.items():
        ours = [imagenet_error(results, name, protocol, kind) for kind in ("top1_error", "top5_error")]
        rows.append(f"| {called(name)} | {top1:.2f} | {ours[0]} | {top5:.2f} | {ours[1]} |")
    return rows


def imagenet_error(results: Results, name: str, protocol: str, kind: str) -> str:
    return cell(
        [
            entry
            for entry in results.entries
            if is_papers(entry) and (entry["dataset"], entry["arch"], entry["protocol"]) == ("imagenet", name, protocol)
        ],
        kind,
    )


def table_6(results: Results) -> list[str]:
    """CIFAR-10."""
    rows = [
        "| network | parameters: paper | counted | test error: paper | trained on 45k | trained on 50k |",
        "|---|---|---|---|---|---|",
    ]
    for name, paper in TABLE_6.items():
        found = results.complexity.get(name)
        printed = f"{paper.error:.2f}"
        if paper.mean is not None:
            printed += f" ({paper.mean:.2f} ± {paper.deviation:.2f})"
        ours = [
            cell([e for e in results.entries if is_papers(e) and cifar_key(e) == (name, CENTER, split)], "top1_error")
            for split in ("train", "trainval")
        ]
        counted = f"{found['parameters']:,}" if found else ""
        rows.append(f"| {called(name)} | {paper.parameters} | {counted} | {printed} | {ours[0]} | {ours[1]} |")
    return rows


def cifar_key(entry: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if entry["dataset"] != "cifar10":
        return None
    return entry["arch"], entry["protocol"], entry["train_split"]


def other_table(results: Results) -> list[str]:
    """What was measured on other data, on a part of it, under another recipe, or for a network without a row."""
    rows = [
        "| trained on | network | recipe | evaluated on | protocol | top-1 error, % | top-5 error, % "
        "| training error, % | runs | time of a run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in results.entries:
        if is_papers(entry) and in_a_table(entry):
            continue
        settings = entry["settings"]
        recipe = ", ".join(
            [
                str(settings.get("recipe")),
                f"{settings['iterations']:,} x {settings['batch_size']}",
                str(settings.get("precision", "fp32")),
            ]
        )
        images = f"{entry['images']:,} images" if entry["images"] else "size not recorded"
        cells = [
            f"`{entry['dataset']}` {entry['train_split']}", called(entry["arch"]), recipe,
            f"{entry['split']}, {images}", entry["protocol"], spread(entry["top1_error"]), spread(entry["top5_error"]),
            spread(entry["train_error"]), str(len(entry["seeds"])), duration(entry),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows if len(rows) > 2 else ["Nothing yet."]


def in_a_table(entry: Mapping[str, Any]) -> bool:
    """Whether one of the paper's tables has a place for an entry on the paper's data."""
    name, protocol = entry["arch"], entry["protocol"]
    if entry["dataset"] == "cifar10":
        return name in TABLE_6 and protocol == CENTER and entry["train_split"] in ("train", "trainval")
    return (protocol == TEN_CROP and (name in TABLE_2 or name in TABLE_3)) or (
        protocol == MULTI_SCALE and name in TABLE_4
    )


def cell(entries: Sequence[Mapping[str, Any]], kind: str) -> str:
    """The errors of one table cell; empty where nothing was measured.

    Raises:
        SystemExit: two files claim the same cell.
    """
    if not entries:
        return ""
    precisions = [str(entry["settings"].get("precision", "fp32")) for entry in entries]
    if len(set(precisions)) < len(entries):
        raise SystemExit(f"results/classification: {entries[0]['arch']} is measured twice in {precisions[0]}; keep one")
    parts = []
    for entry, precision in sorted(zip(entries, precisions, strict=True), key=lambda pair: pair[1], reverse=True):
        text = spread(entry[kind])
        parts.append(text if precision == "fp32" or not text else f"{text} in {precision}")
    return "; ".join(part for part in parts if part)


def spread(values: Sequence[float | None] | None) -> str:
    """One value; or, as the paper prints several runs, ``best (mean ± deviation, N runs)``."""
    known = [value for value in values or () if value is not None]
    if len(known) < 2:
        return f"{known[0]:.2f}" if known else ""
    mean, deviation = statistics.mean(known), statistics.stdev(known)
    return f"{min(known):.2f} ({mean:.2f} ± {deviation:.2f}, {len(known)} runs)"


def duration(entry: Mapping[str, Any]) -> str:
    """The mean time of a run, and on what."""
    known = [seconds for seconds in entry["seconds"] or () if seconds is not None]
    if not known:
        return ""
    return f"{statistics.mean(known):.0f} s, {entry['gpu'] or entry['processor']}"


def called(name: str) -> str:
    """``resnet34_a`` -> ``ResNet-34 A``."""
    parts = re.fullmatch(r"(resnet|plain|vgg)(\d+)(?:_(\w+))?", name)
    if parts is None:
        return f"`{name}`"
    kind, layers, suffix = parts.groups()
    shown = {"resnet": "ResNet", "plain": "plain", "vgg": "VGG"}[kind]
    return f"{shown}-{layers}{NAMES.get(suffix or ('b' if name in OPTION_B else ''), '')}"


TABLES: dict[str, Callable[[Results], list[str]]] = {
    "1": table_1, "2": table_2, "3": table_3, "4": table_4, "6": table_6, "other": other_table,
}  # fmt: skip


def filled(text: str, results: Results) -> str:
    """The page's text with every table made anew."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"docs/results.md has no place for the table {name}")
        body = "\n".join(table(results))
        text = pattern.sub(lambda match, body=body: f"{match[1]}\n{body}\n\n{match[2]}", text)
    return text


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    new = filled(text, read_results(MEASURED))
    if "--check" in sys.argv:
        return 0 if new == text else 1
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
