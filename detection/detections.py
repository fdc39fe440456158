"""What a detector found in one picture. Torch or numpy alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backbones.errors import InputError
from backbones.images import Picture, Size
from detection.drawn_result import DrawnResult

if TYPE_CHECKING:
    import supervision

_LISTED = 8
"""Classes that a representation names."""


@dataclass(frozen=True, repr=False)
class Detections(DrawnResult):
    """D objects in one picture, best first.

    Attributes:
        boxes: [D, 4] float, (x1, y1, x2, y2) in pixels of the original picture.
        scores: [D] float in 0..1.
        labels: [D] integers in 0..K-1.
        masks: ``RunLengthMasks`` (``np.asarray`` of them is [D, H, W] bool), or None where the model has no masks.
        classes: names by label, where a model found them.
        category_ids: by label, those of the files that the model was trained on; empty for 1..K.
        size: (height, width) of the picture, where it is known.
        source: what ``predict`` was given: a path, bytes, an array, ...; not copied, and not pickled but for paths.
    """

    boxes: Any
    scores: Any
    labels: Any
    masks: Any = None
    classes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    size: Size | None = None
    source: Any = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Any) -> Detections:
        """The detections that an index, a slice or a boolean array chooses."""
        if not isinstance(chosen, slice) and np.ndim(chosen) == 0:
            if not -len(self) <= chosen < len(self):  # ends a loop over them, too
                raise IndexError(f"object {chosen} of {len(self)}")
            chosen = [int(chosen)]
        masks = None if self.masks is None else self.masks[chosen]
        return replace(
            self, boxes=self.boxes[chosen], scores=self.scores[chosen], labels=self.labels[chosen], masks=masks
        )

    def above(self, threshold: float | Sequence[float]) -> Detections:
        """Those whose score is at least ``threshold``, which is one number or one for each class."""
        if np.ndim(threshold) == 0:
            return self[self.scores >= threshold]
        return self[np.asarray(self.scores) >= np.asarray(threshold)[np.asarray(self.labels)]]

    def names(self, classes: Sequence[str] = ()) -> list[str]:
        """The class of each, [D]; the label's number where no names are known.

        Args:
            classes: names by label; by default the model's.
        """
        known = classes or self.classes
        return [known[int(label)] if known else str(int(label)) for label in self.labels]

    def to_json(self, classes: Sequence[str] = ()) -> list[dict[str, Any]]:
        """One dictionary for each object: class, score, box as (x1, y1, x2, y2) in pixels (rounded), and with masks
        the mask in COCO's compressed form.

        Args:
            classes: names by label; by default the model's.
        """
        listed: list[dict[str, Any]] = [
            {"class": name, "score": round(float(score), 4), "box": [round(float(edge), 2) for edge in box]}
            for box, score, name in zip(self.boxes, self.scores, self.names(classes), strict=True)
        ]
        if self.masks is not None:
            for item, mask in zip(listed, self.masks.to_compressed_coco(), strict=True):
                item["mask"] = mask
        return listed

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """As COCO's result files hold them: boxes as (x, y, width, height), masks as compressed text, nothing rounded.

        Args:
            image_id: of the picture.
            category_ids: ids by label; by default those of the files that the model was trained on, or 1..K.
        """
        ids = self.category_ids if category_ids is None else category_ids
        corners = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1).tolist()
        labels = np.asarray(self.labels).tolist()
        scores = np.asarray(self.scores, np.float64).tolist()
        rows: list[dict[str, Any]] = [
            {
                "image_id": int(image_id),
                "category_id": int(ids[label]) if len(ids) else label + 1,
                "bbox": box,
                "score": score,
            }
            for label, box, score in zip(labels, boxes, scores, strict=True)
        ]
        if self.masks is not None:
            for row, mask in zip(rows, self.masks.to_compressed_coco(), strict=True):
                row["segmentation"] = mask
        return rows

    def to_supervision(self) -> supervision.Detections:
        """As the library supervision holds them, with ``class_name`` in its data.

        Raises:
            InputError: it is not installed.
        """
        try:
            import supervision
        except ModuleNotFoundError as error:
            if error.name != "supervision":
                raise InputError(f"to_supervision: the library supervision lacks {error.name}; install that") from error
            raise InputError("to_supervision needs the library supervision: pip install supervision") from error
        return supervision.Detections(
            xyxy=np.asarray(self.boxes, np.float32).reshape(-1, 4),
            mask=None if self.masks is None else np.asarray(self.masks),
            confidence=np.asarray(self.scores, np.float32),
            class_id=np.asarray(self.labels, np.int64),
            data={"class_name": np.array(self.names(), str)},
        )

    def draw(self, picture: Any = None) -> Picture:
        from detection.drawing import draw_detections

        return draw_detections(self._picture(picture, self.size), self, self.classes)

    def __repr__(self) -> str:
        scores: dict[str, list[float]] = {}
        for name, score in zip(self.names(), self.scores, strict=True):
            scores.setdefault(name, []).append(float(score))
        listed = [
            f"{len(some)} {name} " + "-".join(dict.fromkeys(f"{score:.2f}" for score in (max(some), min(some))))
            for name, some in list(scores.items())[:_LISTED]
        ] + ["..."] * (len(scores) > _LISTED)
        objects = f"{len(self)} object{'' if len(self) == 1 else 's'}{': ' if listed else ''}{', '.join(listed)}"
        return f"Detections({objects}{f'; {self.size[0]} x {self.size[1]}' if self.size else ''})"
