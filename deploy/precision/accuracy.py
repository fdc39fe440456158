"""What a precision costs on labelled data: the mark of the trained model, and of the file through an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from backbones.classifier import Classifier
from backbones.errors import InputError
from backbones.evaluation import rates_of
from backbones.framing import frame_for_classifier
from backbones.images import Picture, read_image
from backbones.protocols.labelled_data import read_for
from deploy.gates import Verdict
from deploy.runtimes import Runtime
from deploy.runtimes.exported_models import ClassifierRuntime, DetectorRuntime, SegmenterRuntime
from detection.data.datasets import read_checked
from detection.detector import Detector
from detection.evaluation import detect_all, score
from detection.improvements.improved_detector import ImprovedDetector
from detection.segmentation.datasets import read_segmentation, refuse_faulty_labels
from detection.segmentation.evaluation import evaluate_segmenter
from detection.segmentation.segmenter import Segmenter

Trained = Classifier | Detector | ImprovedDetector | Segmenter
Model = Trained | Runtime
_BATCH = 8


@dataclass(frozen=True)
class Marks:
    """One mark of the trained model and of the exported file, in per cent.

    Attributes:
        engine: that ran the file, with its version.
        metric: ``AP``, ``top-1 accuracy`` or ``mIoU``.
        trained, exported: its values.
        images: how many were looked at.
    """

    engine: str
    metric: str
    trained: float
    exported: float
    images: int

    @property
    def loss(self) -> float:
        """Points that the export costs; below zero it gains."""
        return self.trained - self.exported

    def verdict(self, allowed: float) -> Verdict:
        """On the loss, of which so many points are allowed."""
        change = f"loses {self.loss:.2f}" if self.loss >= 0 else f"gains {-self.loss:.2f}"
        return Verdict("loss", self.engine, self.loss, allowed, f"{self}: {change}, {allowed} points of loss allowed")

    def __str__(self) -> str:
        return (
            f"{self.metric} {self.exported:.2f} in {self.engine} against {self.trained:.2f} of the trained model"
            f" on {self.images} images"
        )


class LabelledData:
    """A split of a data set, labelled as a model labels; marks any form of that model.

    Args:
        model: the trained one.
        dataset, split: as ``evaluate.py`` takes them; None for its default.
        data_dir: where named sets lie.

    Raises:
        InputError: no such data, or of other classes.
    """

    def __init__(self, model: Trained, dataset: str, split: str | None, data_dir: str | None) -> None:
        if isinstance(model, Classifier):
            data = read_for(model.classes, dataset, split, data_dir)
            self.metric, self._count = "top-1 accuracy", len(data.labels)
            self._picture: Callable[[int], Any] = data.pictures.picture
            self._mark: Callable[[Any], float] = partial(_top1, data=data)
        elif isinstance(model, Segmenter):
            segmentation, faults = read_segmentation(dataset, split or "val", model.classes, data_dir=data_dir)
            refuse_faulty_labels(faults, dataset)
            self.metric, self._count = "mIoU", len(segmentation)
            self._picture = segmentation.images.pictures.__getitem__
            self._mark = partial(_iou, data=segmentation)
        else:
            boxes = read_checked(dataset, split or "val", data_dir=data_dir)
            boxes = replace(boxes, annotations=boxes.annotations.relabelled(model.classes))
            self.metric, self._count = "AP", len(boxes)
            self._picture = boxes.pictures.__getitem__
            self._mark = partial(_average_precision, data=boxes)
        self._trained: float | None = None
        self._model = model

    def __len__(self) -> int:
        return self._count

    def some(self, count: int) -> list[Picture]:
        """Pictures spread evenly over the data."""
        places = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        return [read_image(self._picture(int(place))) for place in places]

    def compare(self, runtime: Runtime) -> Marks:
        """Mark the exported model, and once the trained one."""
        if self._trained is None:
            self._trained = self._mark(self._model)
        return Marks(runtime.session.engine, self.metric, self._trained, self._mark(runtime), len(self))


def _top1(model: Classifier | ClassifierRuntime, data: Any) -> float:
    scores = np.concatenate([model.logits(batch) for batch in _framed(model, data)])
    return 100 - rates_of(scores, data.labels).top1


def _framed(model: Classifier | ClassifierRuntime, data: Any) -> Iterator[Picture]:
    convention = model.convention
    if convention.size is None:
        raise InputError("the model names no input size, so its pictures cannot share batches")
    count = len(data.labels)
    for start in range(0, count, 32):
        numbers = range(start, min(start + 32, count))
        yield np.stack([frame_for_classifier(data.pictures.picture(number), convention) for number in numbers])


def _average_precision(model: Detector | ImprovedDetector | DetectorRuntime, data: Any) -> float:
    found = detect_all(model.predict_each, data, _BATCH)
    return 100 * score(found, data.annotations).metrics["AP"]


def _iou(model: Segmenter | SegmenterRuntime, data: Any) -> float:
    return 100 * evaluate_segmenter(model.predict_each, data, _BATCH).metrics["mIoU"]
