"""What was found, kept for a visitor, and what the chosen threshold, classes and masks leave of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backbones.images import Picture, Size
from demo.safety.uploads import Sent
from detection.detections import Detections
from detection.drawing import draw_detections

_WIDE_ENOUGH = 640
"""Smaller pictures are enlarged to about this, so that labels hide little."""
_LARGEST_FACTOR = 8


@dataclass(frozen=True)
class Chosen:
    """What a visitor wants to see.

    Attributes:
        threshold: the least score.
        own: each class's own threshold instead, where the model stores them.
        classes: names; none means all.
        masks: whether masks are shown.
    """

    threshold: float = 0.5
    own: bool = False
    classes: tuple[str, ...] = ()
    masks: bool = True


@dataclass(frozen=True)
class FoundPicture:
    """One picture and all that was found in it.

    Attributes:
        sent: the picture.
        found: every detection of the model, in the picture's pixels.
    """

    sent: Sent
    found: Detections

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.sent.size


@dataclass(frozen=True)
class Found:
    """The pictures of one request.

    Attributes:
        model: its name.
        classes: names by label.
        thresholds: the model's own, by label; may be empty.
        pictures: in the order in which they were sent.
        seconds: that the model took, for all.
    """

    model: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...] = ()
    pictures: tuple[FoundPicture, ...] = field(default=())
    seconds: float = 0.0

    def chosen(self, number: int, chosen: Chosen) -> Detections:
        """What a visitor wants to see of picture ``number``."""
        found = self.pictures[number].found
        kept = found.above(least_scores(self.classes, self.thresholds, chosen))
        return kept if chosen.masks else replace(kept, masks=None)

    def to_json(self, number: int, chosen: Chosen) -> dict[str, Any]:
        """Picture ``number`` as ``detection/predict.py`` lists it."""
        picture = self.pictures[number]
        height, width = picture.size
        detections = self.chosen(number, chosen).to_json(self.classes)
        return {"file": picture.sent.name, "height": height, "width": width, "detections": detections}


def least_scores(classes: Sequence[str], thresholds: Sequence[float], chosen: Chosen) -> tuple[float, ...]:
    """The least score of each class; infinite for one that is not wanted."""
    own = chosen.own and len(thresholds) == len(classes)
    least = thresholds if own else (chosen.threshold,) * len(classes)
    return tuple(
        score if not chosen.classes or name in chosen.classes else math.inf
        for name, score in zip(classes, least, strict=True)
    )


def draw_found(picture: Picture, found: Detections, classes: Sequence[str]) -> Picture:
    """A copy with masks, boxes and labels; small pictures are enlarged by a whole number."""
    factor = max(1, min(_LARGEST_FACTOR, round(_WIDE_ENOUGH / max(picture.shape[:2]))))
    return draw_detections(picture, found, classes, enlarge=factor)


def count_classes(found: Detections) -> list[tuple[int, int]]:
    """(label, how many), the most frequent first."""
    counts = Counter(int(label) for label in found.labels)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def table_rows(found: Detections, classes: Sequence[str]) -> list[list[Any]]:
    """A row for each object: class, score, and box in whole pixels."""
    return [
        [item["class"], round(item["score"], 3), *(round(edge) for edge in item["box"])]
        for item in replace(found, masks=None).to_json(classes)
    ]
