"""Detectors exported with the views of a picture that they are tested with: several sizes, mirror images.

The graph has a pair of inputs for each size, so any engine gives the multi-scale results of appendix B, in one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np
from torch import Tensor, nn

from backbones.images import Picture
from backbones.metadata import ModelMetadata
from deploy.exported_kinds import ExportableDetector, padded_inputs
from deploy.gates import Gate
from deploy.graphs import detector_graph, pixels_first
from deploy.precision.calibration import Feed
from deploy.runtimes import Runtime
from deploy.runtimes.exported_models import ViewsRuntime, input_names
from deploy.verification import Pair, Verification, compare_detections, padded_batch, rounds
from detection.detector import Detector
from detection.improvements.framed_views import ViewSettings, input_at
from detection.improvements.improved_detector import ImprovedDetector


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
                ours, theirs = self.improved.detect_arrays(images, sizes), runtime.detect_views(images, sizes)
                yield Pair(images[0], sizes[0], ours, theirs)

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
