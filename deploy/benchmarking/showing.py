"""Measured models as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.analysis.drawing import save_figure
from backbones.running.report import new_figure

if TYPE_CHECKING:
    from deploy.benchmarking.running import Measured

HEADER = ("model and engine", "batch", "p50 ms", "p95", "p99", "images/s", "times faster", "of peak", "MiB")


def table(measured: Sequence[Measured], against: str) -> list[str]:
    """A line for each, under a header; ratios and shares are medians of turns, ratios with their range."""
    rows = [HEADER, *(_cells(item, against) for item in measured)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADER))]
    return [
        "  ".join(
            f"{cell:<{width}}" if not place else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(item: Measured, against: str) -> tuple[str, ...]:
    timing = item.timing
    return (
        item.subject.name,
        str(timing.batch),
        *(f"{value:.1f}" if value >= 10 else f"{value:.2f}" for value in (timing.p50, timing.p95, timing.p99)),
        f"{timing.images_per_second:.1f}",
        "1" if item.subject.name == against else str(timing.ratio),
        f"{timing.share.median:.0%}" if timing.share else "-",
        f"{item.memory.peak:.0f}" if item.memory else "-",
    )


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Bars of throughput, a group of them for each batch, and on them p50 and p99 of an image's latency."""
    figure, axes = new_figure(11, 1.2 + 0.3 * len(measured), 2)
    labels = [f"{item.subject.name}, batch {item.timing.batch}" for item in measured]
    places = range(len(measured))
    colors = [f"C{sorted({other.timing.batch for other in measured}).index(item.timing.batch)}" for item in measured]
    axes[0].barh(places, [item.timing.images_per_second for item in measured], color=colors)
    axes[0].set(xlabel="images per second")
    axes[0].set_yticks(places, labels)
    middles = [item.timing.p50 for item in measured]
    tails = [max(0.0, item.timing.p99 - item.timing.p50) for item in measured]
    axes[1].barh(places, middles, xerr=([0.0] * len(tails), tails), color=colors, capsize=3)
    axes[1].set(xlabel="ms for a batch: p50, and up to p99")
    axes[1].set_yticks(places, [""] * len(measured))
    for axis in axes:
        axis.invert_yaxis()
    save_figure(figure, path)
