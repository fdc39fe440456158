"""What differs between exporting a classifier, a detector and a segmenter, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from backbones.classifier import Classifier
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.metadata import Exported, ModelMetadata
from backbones.resize_fingerprint import resize_fingerprint
from deploy.gates import Gate
from deploy.graphs import MOST_SORTED, capped, classifier_graph, detector_graph, outputs_of, segmenter_graph
from deploy.onnx_export import Shapes, dynamic_pictures
from deploy.precision.calibration import Feed
from deploy.runtimes import Runtime
from deploy.runtimes.exported_models import ClassifierRuntime, DetectorRuntime, SegmenterRuntime
from deploy.verification import Verification, padded_batch, verify_classifier, verify_detector, verify_segmenter
from detection.building import describe as describe_detector
from detection.detector import Detector
from detection.improvements.improved_detector import ImprovedDetector
from detection.segmentation.building import describe as describe_segmenter
from detection.segmentation.segmenter import Segmenter


class Exportable(Protocol):
    """A trained model with what the export command needs of it.

    Attributes:
        example: inputs to trace with, by name, with a batch of 2.
        shapes: which of their dimensions are free.
        argument: the name under which the graph takes all inputs as one, or None if each is an argument.
    """

    example: dict[str, Tensor]
    shapes: Shapes
    argument: str | None

    @property
    def flavour(self) -> str | None:
        """Of a detector's graph; None where there is one graph for every engine, a portable one."""

    @property
    def judged(self) -> Classifier | Detector | Segmenter | ImprovedDetector:
        """The trained model as labelled data shall mark it."""

    def graph(self, precision: str) -> Any:
        """The module to trace, with the names of its ``outputs``."""

    def metadata(self, precision: str, flavour: str) -> ModelMetadata:
        """What travels with the file."""

    def feeds(self, pictures: Sequence[Picture]) -> Iterator[Feed]:
        """Inputs by name to calibrate with, one picture at a time, framed as for prediction."""

    def verify(self, runtime: Runtime, pictures: Sequence[Picture], gate: Gate) -> Verification:
        """The exported model against the trained one."""


class ExportableClassifier:
    """A classifier."""

    argument: str | None = None
    flavour: str | None = None

    def __init__(self, classifier: Classifier) -> None:
        self.model = self.judged = classifier
        height, width = classifier.convention.size or (224, 224)
        self.example = {"images": torch.zeros(2, height, width, 3, dtype=torch.uint8)}
        shape = dynamic_pictures()
        if classifier.normalize.mean.shape[1:] != (1, 1):
            shape = {0: shape[0]}  # a mean picture fixes the size
        self.shapes = {"images": shape}

    def graph(self, precision: str) -> nn.Module:
        return classifier_graph(self.model, precision)

    def metadata(self, precision: str, flavour: str) -> ModelMetadata:
        outputs = tuple(outputs_of(self.model))
        dense = "activation_map" in outputs and 1 in self.shapes["images"]
        exported = Exported(
            precision=precision, flavour=flavour, outputs=outputs, resize=resize_fingerprint(), dense=dense
        )
        return ModelMetadata(
            task="classification", architecture={"backbone": self.model.backbone}, classes=self.model.classes,
            input=self.model.convention, exported=exported,
        )  # fmt: skip

    def feeds(self, pictures: Sequence[Picture]) -> Iterator[Feed]:
        for picture in pictures:
            yield {"images": frame_for_classifier(picture, self.model.convention)[None]}

    def verify(self, runtime: Runtime, pictures: Sequence[Picture], gate: Gate) -> Verification:
        assert isinstance(runtime, ClassifierRuntime)
        return verify_classifier(self.model, runtime, pictures, gate)


class ExportableDetector:
    """A detector, with or without masks.

    It is compared with the trained one under the same cap on proposals; what the cap costs, labelled data tells.
    """

    argument: str | None = None

    def __init__(self, detector: Detector, flavour: str, proposals: int | None) -> None:
        self.model = detector
        self.flavour, self.proposals = flavour, proposals
        self.settings = capped(detector.settings, proposals)
        self.example, self.shapes = padded_inputs(detector.settings.input.multiple)

    @property
    def judged(self) -> Detector | ImprovedDetector:
        return self.model

    def graph(self, precision: str) -> nn.Module:
        return detector_graph(self.model, self.flavour, precision, self.proposals)

    def metadata(self, precision: str, flavour: str) -> ModelMetadata:
        outputs = ("boxes", "scores", "labels", "exact", *(["masks"] if self.model.masks is not None else []))
        own, now = self.model.settings.test_proposals, self.settings.test_proposals
        proposals = {
            "before_nms": now.before_nms, "after_nms": now.after_nms, "trained": [own.before_nms, own.after_nms],
            "limit": MOST_SORTED,
        }  # fmt: skip
        exported = Exported(
            precision=precision, flavour=flavour, outputs=outputs, resize=resize_fingerprint(), proposals=proposals
        )
        about = replace(describe_detector(self.model), architecture=self.settings.to_dict(), exported=exported)
        return about.with_more(score_thresholds=list(self.settings.score_thresholds))

    def feeds(self, pictures: Sequence[Picture]) -> Iterator[Feed]:
        return _padded_feeds(self.model, pictures)

    def verify(self, runtime: Runtime, pictures: Sequence[Picture], gate: Gate) -> Verification:
        trained = self.model.settings
        self.model.settings = self.settings
        try:
            return self._compare(runtime, pictures, gate)
        finally:
            self.model.settings = trained

    def _compare(self, runtime: Runtime, pictures: Sequence[Picture], gate: Gate) -> Verification:
        assert isinstance(runtime, DetectorRuntime)
        return verify_detector(self.model, runtime, pictures, gate)


class ExportableSegmenter:
    """A semantic segmenter."""

    argument: str | None = None
    flavour: str | None = None

    def __init__(self, segmenter: Segmenter) -> None:
        self.model = self.judged = segmenter
        self.example, self.shapes = padded_inputs(segmenter.settings.input.multiple)

    def graph(self, precision: str) -> nn.Module:
        return segmenter_graph(self.model, precision)

    def metadata(self, precision: str, flavour: str) -> ModelMetadata:
        exported = Exported(
            precision=precision, flavour=flavour, outputs=("labels", "scores"), resize=resize_fingerprint()
        )
        return replace(describe_segmenter(self.model), exported=exported)

    def feeds(self, pictures: Sequence[Picture]) -> Iterator[Feed]:
        return _padded_feeds(self.model, pictures)

    def verify(self, runtime: Runtime, pictures: Sequence[Picture], gate: Gate) -> Verification:
        assert isinstance(runtime, SegmenterRuntime)
        return verify_segmenter(self.model, runtime, pictures, gate)


def padded_inputs(multiple: int, place: str = "") -> tuple[dict[str, Tensor], Shapes]:
    """Inputs ``images`` and ``sizes`` to trace with, and their free dimensions; ``place`` ends all their names."""
    example = {
        f"images{place}": torch.zeros(2, 5 * multiple, 6 * multiple, 3, dtype=torch.uint8),
        f"sizes{place}": torch.tensor([[5 * multiple, 6 * multiple], [5 * multiple - 9, 6 * multiple - 20]]),
    }
    shape = dynamic_pictures(multiple, place)
    return example, {f"images{place}": shape, f"sizes{place}": {0: shape[0]}}


def _padded_feeds(model: Detector | Segmenter, pictures: Sequence[Picture]) -> Iterator[Feed]:
    for picture in pictures:
        images, sizes = padded_batch([picture], model.settings.input)
        yield {"images": images, "sizes": np.ascontiguousarray(sizes)}
