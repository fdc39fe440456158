"""What a detector found in one picture. Torch or numpy alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Detections:
    """D objects in one picture, best first.

    Attributes:
        boxes: [D, 4] float, (x1, y1, x2, y2) in pixels of the original picture.
        scores: [D] float in 0..1.
        labels: [D] integers in 0..K-1.
        masks: ``RunLengthMasks`` (``np.asarray`` of them is [D, H, W] bool), or None where the model has no masks.
    """

    boxes: Any
    scores: Any
    labels: Any
    masks: Any = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Any) -> Detections:
        """The detections that an index, a slice or a boolean array chooses."""
        parts = (getattr(self, item.name) for item in fields(self))
        return Detections(*(None if part is None else part[chosen] for part in parts))

    def above(self, threshold: float | Sequence[float]) -> Detections:
        """Those whose score is at least ``threshold``, which is one number or one for each class."""
        if np.ndim(threshold) == 0:
            return self[self.scores >= threshold]
        return self[np.asarray(self.scores) >= np.asarray(threshold)[np.asarray(self.labels)]]

    def to_json(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """One dictionary for each object: class, score, box as (x1, y1, x2, y2) in pixels (rounded), and with masks
        the mask in COCO's compressed form."""
        listed: list[dict[str, Any]] = [
            {
                "class": classes[int(label)],
                "score": round(float(score), 4),
                "box": [round(float(edge), 2) for edge in box],
            }
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]
        if self.masks is not None:
            for item, mask in zip(listed, self.masks.to_compressed_coco(), strict=True):
                item["mask"] = mask
        return listed
