"""Results in words and marks: HTML in which whatever strangers wrote is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from backbones.images import Size
from demo.view.found import count_classes
from detection.detections import Detections
from detection.drawing import class_color


def counts_html(found: Detections, classes: Sequence[str]) -> str:
    """How many of each class, each beside the colour of its boxes."""
    if not len(found):
        return '<p class="counts none">Nothing at this threshold. Move it to the left to see less certain objects.</p>'
    chips = "".join(
        f'<li><span class="swatch" style="background:rgb{class_color(label)}"></span>'
        f"{escape(classes[label])}<b>{count}</b></li>"
        for label, count in count_classes(found)
    )
    return f'<ul class="counts" aria-label="objects of each class">{chips}</ul>'


def spoken_summary(found: Detections, classes: Sequence[str], name: str) -> str:
    """For screen readers, in place of the drawn picture."""
    listed = ", ".join(f"{count} of class {classes[label]}" for label, count in count_classes(found))
    return f"{name} with {len(found)} objects marked{': ' + listed if listed else ''}"


def facts_html(*facts: str) -> str:
    """A line of short facts."""
    return '<p class="facts">' + "".join(f"<span>{escape(fact)}</span>" for fact in facts if fact) + "</p>"


def extent(size: Size) -> str:
    """``640 × 480 pixels``, width first, as people say it."""
    return f"{size[1]} × {size[0]} pixels"


def duration(seconds: float) -> str:
    """``34 ms`` or ``2.1 s``."""
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def plural(count: int, noun: str) -> str:
    """``1 object``, ``2 objects``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
