"""What was found, kept for a visitor, and what the chosen threshold, classes and masks leave of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backbones.images import Picture, Size
from demo.safety.uploads import Sent
from detection.detections import Detections
from detection.drawing import draw_detections
from detection.metrics.thresholds import Thresholded, thresholds_by_class

_WIDE_ENOUGH = 640
"""Smaller pictures are enlarged to about this, so that labels hide little."""
_LARGEST_FACTOR = 8


@dataclass(frozen=True)
class Chosen:
    """What a visitor wants to see.

    Attributes:
        threshold: the least score; None for each class's own, where the model stores them, or 0.5.
        classes: names, or a text with commas between them; none means all.
        masks: whether masks are shown.
    """

    threshold: float | None = None
    classes: str | tuple[str, ...] = ()
    masks: bool = True

    def of(self, found: Detections, model: Thresholded) -> Detections:
        """What of everything that a model found is to be seen.

        Raises:
            InputError: the model knows no such class, or no score can be compared with the threshold.
        """
        kept = found.above(thresholds_by_class(model, self.threshold, self.classes or None, "classes"))
        return kept if self.masks else replace(kept, masks=None)


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
        score_thresholds: the model's own, by label; may be empty.
        pictures: in the order in which they were sent.
        seconds: that the model took, for all.
    """

    model: str
    classes: tuple[str, ...]
    score_thresholds: tuple[float, ...] = ()
    pictures: tuple[FoundPicture, ...] = field(default=())
    seconds: float = 0.0

    def chosen(self, number: int, chosen: Chosen) -> Detections:
        """What a visitor wants to see of picture ``number``."""
        return chosen.of(self.pictures[number].found, self)

    def to_json(self, number: int, chosen: Chosen) -> dict[str, Any]:
        """Picture ``number`` as ``detection/predict.py`` lists it."""
        picture = self.pictures[number]
        height, width = picture.size
        detections = self.chosen(number, chosen).to_json(self.classes)
        return {"file": picture.sent.name, "height": height, "width": width, "detections": detections}


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
