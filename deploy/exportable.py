"""What is exported of a trained classifier, detector or segmenter, behind one interface; and opening one for export.

The graph of a detector that is tested with several views of a picture (several sizes, mirror images) has a pair of
inputs for each size, so any engine gives the multi-scale results of appendix B, in one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from backbones.classifier import Classifier
from backbones.data.folders import read_class_names
from backbones.errors import InputError
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.metadata import Exported, ModelMetadata
from backbones.resize_fingerprint import resize_fingerprint
from deploy.gates import Gate
from deploy.graphs import (
    MOST_SORTED,
    capped,
    classifier_graph,
    detector_graph,
    outputs_of,
    pixels_first,
    segmenter_graph,
)
from deploy.models import open_trained
from deploy.onnx_export import Shapes, dynamic_pictures
from deploy.precision.calibration import Feed
from deploy.runtimes import Runtime
from deploy.runtimes.exported_models import (
    ClassifierRuntime,
    DetectorRuntime,
    SegmenterRuntime,
    ViewsRuntime,
    input_names,
)
from deploy.verification import (
    Pair,
    Verification,
    compare_detections,
    padded_batch,
    rounds,
    verify_classifier,
    verify_detector,
    verify_segmenter,
)
from detection.building import describe as describe_detector
from detection.detector import Detector
from detection.improvements.framed_views import ViewSettings, input_at
from detection.improvements.improved_detector import ImprovedDetector
from detection.inference_switches import with_switches
from detection.segmentation.building import describe as describe_segmenter
from detection.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from deploy.export_options import ExportOptions


class Exportable:
    """A trained model with what the export command needs of it.

    Args:
        model: the trained model.
        example: inputs to trace with, by name, with a batch of 2.
        shapes: which of their dimensions are free.

    Attributes:
        argument: the name under which the graph takes all inputs as one, or None if each is an argument.
        flavour: of a detector's graph; None where there is one graph for every engine, a portable one.
    """

    argument: str | None = None
    flavour: str | None = None

    def __init__(self, model: Any, example: dict[str, Tensor], shapes: Shapes) -> None:
        self.model, self.example, self.shapes = model, example, shapes

    @property
    def judged(self) -> Classifier | Detector | Segmenter | ImprovedDetector:
        """The trained model as labelled data shall mark it."""
        judged: Classifier | Detector | Segmenter | ImprovedDetector = self.model
        return judged

    def graph(self, precision: str) -> Any:
        """The module to trace, with the names of its ``outputs``."""
        raise NotImplementedError

    def metadata(self, precision: str, flavour: str) -> ModelMetadata:
        """What travels with the file."""
        raise NotImplementedError

    def feeds(self, pictures: Sequence[Picture]) -> Iterator[Feed]:
        """Inputs by name to calibrate with, one picture at a time, framed as for prediction."""
        for picture in pictures:
            images, sizes = padded_batch([picture], self.model.settings.input)
            yield {"images": images, "sizes": np.ascontiguousarray(sizes)}

    def verify(self, runtime: Runtime, pictures: Sequence[Picture], gate: Gate) -> Verification:
        """The exported model against the trained one."""
        raise NotImplementedError


class ExportableClassifier(Exportable):
    """A classifier."""

    def __init__(self, classifier: Classifier) -> None:
        height, width = classifier.convention.size or (224, 224)
        example = {"images": torch.zeros(2, height, width, 3, dtype=torch.uint8)}
        shape = dynamic_pictures()
        if classifier.normalize.mean.shape[1:] != (1, 1):
            shape = {0: shape[0]}  # a mean picture fixes the size
        super().__init__(classifier, example, {"images": shape})

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


class ExportableDetector(Exportable):
    """A detector, with or without masks.

    It is compared with the trained one under the same cap on proposals; what the cap costs, labelled data tells.
    """

    flavour: str

    def __init__(self, detector: Detector, flavour: str, proposals: int | None) -> None:
        super().__init__(detector, *padded_inputs(detector.settings.input.multiple))
        self.flavour, self.proposals = flavour, proposals
        self.settings = capped(detector.settings, proposals)

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


class ExportableSegmenter(Exportable):
    """A semantic segmenter."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__(segmenter, *padded_inputs(segmenter.settings.input.multiple))

    def graph(self, precision: str) -> nn.Module:
        return segmenter_graph(self.model, precision)

    def metadata(self, precision: str, flavour: str) -> ModelMetadata:
        exported = Exported(
            precision=precision, flavour=flavour, outputs=("labels", "scores"), resize=resize_fingerprint()
        )
        return replace(describe_segmenter(self.model), exported=exported)

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


class ViewsGraph(nn.Module):
    """Batches by name, images* [B, H, W, 3] uint8 and sizes* [B, 2] int64 of each size -> what ``outputs`` names.

    The outputs are those of ``DetectorGraph``, in pixels of the first size.
    """

    def __init__(self, detector: Detector, views: ViewSettings, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.detector = detector
        self.improved = ImprovedDetector([detector], views)
        self.outputs = outputs

    def forward(self, batches: dict[str, Tensor]) -> tuple[Tensor, ...]:
        names = [input_names(side, self.improved.sides) for side in self.improved.sides]
        images = [pixels_first(batches[pixels]) for pixels, _ in names]
        found = self.improved.detect(images, [batches[sizes] for _, sizes in names])
        return tuple(getattr(found, name) for name in self.outputs)


class ExportableViews(ExportableDetector):
    """A detector that looks at each picture more than once."""

    argument: str | None = "batches"

    def __init__(self, detector: Detector, views: ViewSettings, flavour: str, proposals: int | None) -> None:
        super().__init__(detector, flavour, proposals)
        self.views = views
        self.improved = ImprovedDetector([detector], views)
        self.example, self.shapes = {}, {}
        for side in self.improved.sides:
            place = "" if side == self.improved.sides[0] else f"_{side}"
            example, shapes = padded_inputs(detector.settings.input.multiple, place)
            self.example |= example
            self.shapes |= shapes

    @property
    def judged(self) -> ImprovedDetector:
        return self.improved

    def graph(self, precision: str) -> nn.Module:
        plain = detector_graph(self.model, self.flavour, precision, self.proposals)
        assert isinstance(plain.detector, Detector)
        return ViewsGraph(plain.detector, self.views, plain.outputs)

    def metadata(self, precision: str, flavour: str) -> ModelMetadata:
        about = super().metadata(precision, flavour)
        assert about.exported is not None
        return replace(about, exported=replace(about.exported, views=asdict(self.views)))

    def feeds(self, pictures: Sequence[Picture]) -> Iterator[Feed]:
        for picture in pictures:
            yield dict(self._named(*self._batches([picture], 1.0)))

    def _compare(self, runtime: Runtime, pictures: Sequence[Picture], gate: Gate) -> Verification:
        assert isinstance(runtime, ViewsRuntime)

        def pairs() -> Iterator[Pair]:
            for scale, chosen in rounds(pictures):
                images, sizes = self._batches(chosen, scale)
                ours, theirs = self.improved.detect_arrays(images, sizes), runtime.detect_arrays(images, sizes)
                yield images[0], sizes[0], ours, theirs

        return compare_detections(runtime.session.engine, pairs(), gate)

    def _batches(self, pictures: Sequence[Picture], scale: float) -> tuple[list[Picture], list[np.ndarray]]:
        """The same pictures at each size, in padded batches."""
        own = self.model.settings.input
        each = [padded_batch(pictures, input_at(own, side), scale) for side in self.improved.sides]
        return [images for images, _ in each], [sizes for _, sizes in each]

    def _named(self, images: Sequence[Picture], sizes: Sequence[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        for side, pixels, valid in zip(self.improved.sides, images, sizes, strict=True):
            first, second = input_names(side, self.improved.sides)
            yield first, pixels
            yield second, np.ascontiguousarray(valid)


def open_exportable(options: ExportOptions) -> Exportable:
    """Load the model that the options name.

    Raises:
        InputError: it cannot be read, has no exported form, or is not what a switch is for.
    """
    names = read_class_names(Path(options.classes)) if options.classes else ()
    model = open_trained(options.model, arch=options.arch, classes=names)
    if isinstance(model, Detector):
        return _detector(model, options)
    if options.given_switches():
        raise InputError(f"{', '.join(options.given_switches())}: only detectors have it, and {options.model} is none")
    return ExportableSegmenter(model) if isinstance(model, Segmenter) else ExportableClassifier(model)


def _detector(detector: Detector, options: ExportOptions) -> Exportable:
    detector.settings = with_switches(detector.settings, options)
    views = ViewSettings(options.maxout or (), options.scales or (), bool(options.flip))
    if views == ViewSettings():
        return ExportableDetector(detector, options.detector_flavour, options.proposals)
    return ExportableViews(detector, views, options.detector_flavour, options.proposals)
