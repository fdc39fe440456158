"""What is wrong with a data set, file by file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backbones.errors import InputError

logger = logging.getLogger("shortcut")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        file: where it is.
        what: one line.
        kind: ``box``: the object is left out and the rest is used; ``file``: the file must be mended or removed;
            ``warning``: used as it is, but likely a mistake.
        line: of the file, from 1, where it has lines.
        entry: in a JSON file, such as ``annotations[12]``, from 0.
        box: as the file gives it, where it is about one.
    """

    file: str
    what: str
    kind: Literal["box", "file", "warning"]
    line: int | None = None
    entry: str = ""
    box: Box | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.entry}: {self.what}" if self.entry else f"{place}: {self.what}"


def refuse_faulty_files(faults: Sequence[Fault], dataset: str) -> None:
    """Stop at faults that cannot be trained around; mention those that can.

    Raises:
        InputError: a file is missing or unreadable.
    """
    advice = f"list all: python detection/check.py --dataset {dataset}"
    files = [fault for fault in faults if fault.kind == "file"]
    if files:
        rest = f", and {len(files) - 1} more" if len(files) > 1 else ""
        raise InputError(f"{files[0]}{rest}; {advice}")
    boxes = [fault for fault in faults if fault.kind == "box"]
    if boxes:
        logger.warning("%s left out, the first: %s; %s", count_of(len(boxes), "object"), boxes[0], advice)
    warnings = [fault for fault in faults if fault.kind == "warning"]
    if warnings:
        logger.warning("%s, the first: %s; %s", count_of(len(warnings), "likely mistake"), warnings[0], advice)


def count_of(number: int, noun: str) -> str:
    """``1 box``, ``2 boxes``."""
    ending = "" if number == 1 else "es" if noun.endswith("x") else "s"
    return f"{number} {noun}{ending}"


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


def overhang(box: Sequence[float], width: int, height: int) -> str | None:
    """A likely mistake: a usable box that reaches outside its image by more than rounding does, or None."""
    x1, y1, x2, y2 = box
    if min(x1, y1) >= -1 and x2 <= width + 1 and y2 <= height + 1:
        return None
    return f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) reaches outside the image of {width} x {height} pixels; cut there"


def clipped(box: Sequence[float], width: int, height: int) -> Box:
    """The part of a box inside its image."""
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
