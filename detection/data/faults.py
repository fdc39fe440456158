"""What is wrong with a data set, file by file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backbones.errors import InputError

logger = logging.getLogger("shortcut")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        file: where it is.
        what: one line.
        kind: ``box``: the box is left out and the rest is used; ``file``: the file must be mended or removed.
    """

    file: str
    what: str
    kind: Literal["box", "file"]

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def refuse_faulty_files(faults: Sequence[Fault], dataset: str) -> None:
    """Stop at faults that cannot be trained around; mention those that can.

    Raises:
        InputError: a file is missing or unreadable.
    """
    files = [fault for fault in faults if fault.kind == "file"]
    if files:
        rest = f", and {len(files) - 1} more" if len(files) > 1 else ""
        raise InputError(f"{files[0]}{rest}; list all: python detection/check.py --dataset {dataset}")
    if faults:
        logger.warning(
            "%d boxes are left out, the first: %s; list all: python detection/check.py --dataset %s",
            len(faults), faults[0], dataset,
        )  # fmt: skip


def box_fault(box: Sequence[float], width: int, height: int) -> str | None:
    """Why a box cannot be used, or None. Edges up to a pixel outside are rounding, not faults."""
    x1, y1, x2, y2 = box
    shown = f"({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    if not all(abs(edge) < 1e9 for edge in box):
        return f"box {shown} is not finite"
    if x2 <= x1 or y2 <= y1:
        return f"box {shown} has no area"
    if min(x2, width) - max(x1, 0) <= 0 or min(y2, height) - max(y1, 0) <= 0:
        return f"box {shown} lies outside the image of {width} x {height} pixels"
    return None


def clipped(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """The part of a box inside its image."""
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
