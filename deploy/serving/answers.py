"""Answers read: tensors of one picture back to detections and classes. Numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from detection.masks.compressed import decompress
from detection.masks.run_length import RunLengthMasks


def read_detections(outputs: Mapping[str, NDArray[Any]]) -> Detections:
    """The detections of an answer of one picture, in the picture's pixels."""
    count = int((outputs["scores"][0] > 0).sum())
    masks = None
    if "masks" in outputs:
        height, width = (int(side) for side in outputs["size"][0])
        texts = (row.tobytes().rstrip(b"\0") for row in outputs["masks"][0, :count])
        masks = RunLengthMasks((height, width), tuple(decompress(text) for text in texts))
    boxes, scores, labels = (np.array(outputs[name][0, :count]) for name in ("boxes", "scores", "labels"))
    return Detections(boxes, scores, labels, masks)


def read_classes(outputs: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The best classes of an answer of one picture, best first."""
    pairs = zip(outputs["labels"][0], outputs["scores"][0], strict=True)
    return [{"class": classes[int(label)], "score": round(float(score), 4)} for label, score in pairs]
