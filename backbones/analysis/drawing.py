"""What the figures share: panels with legible type, a palette, PNG files that are whole or absent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.running.atomic_write import atomic_path
from backbones.running.known_files import FIGURE_METADATA
from backbones.running.report import new_figure

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
"""Okabe and Ito's colours, which colour-blind readers tell apart."""
TEXT, SMALL = 14, 12


def new_panels(columns: int, width: float = 6.6, height: float = 5.2) -> tuple[Any, Sequence[Any]]:
    """A figure with panels side by side, each ``width`` by ``height`` inches."""
    figure, axes = new_figure(width * columns, height, columns)
    panels = list(axes) if columns > 1 else [axes]
    for axis in panels:
        axis.tick_params(labelsize=SMALL)
    return figure, panels


def color_of(number: int) -> str:
    """The colour of the ``number``-th line; they come round again."""
    return PALETTE[number % len(PALETTE)]


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG atomically, and close the figure."""
    from matplotlib import pyplot

    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=120, bbox_inches="tight", facecolor="white", metadata=FIGURE_METADATA)
    pyplot.close(figure)
