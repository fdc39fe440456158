"""Testing with several sizes, mirror images and several detectors: the rest of appendix B, and today's alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.errors import InputError
from backbones.images import Picture
from backbones.running.precision import autocast
from detection.detections import Detections
from detection.detector import Detector, to_arrays
from detection.framing import FoundArrays
from detection.improvements.ensemble import mean_scorer, union
from detection.improvements.framed_views import ViewsDetector, ViewSettings
from detection.improvements.multi_scale import TwoScalePooler
from detection.improvements.views import mirrored, mirrored_back, rescaled, together
from detection.pooling import RegionPooler, SingleScalePooler
from detection.proposals import Proposals
from detection.scoring import DetectionBatch, Pairs
from detection.settings import DetectorSettings


@dataclass(frozen=True)
class _Sized:
    """A batch at one size: images [B, 3, H, W] and valid sizes [B, 2]."""

    images: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class _Seen:
    """What one view gives: pairs in its own pixels, whether proposals were exact, and the first detector's pooler."""

    pairs: Pairs
    exact: Tensor
    pool: RegionPooler


class ImprovedDetector(ViewsDetector):
    """One detector or several, with the ``predict`` of a ``Detector``; the first detector's thresholds count.

    Refinement, voting and suppression follow the first detector's ``settings.output``; so do size and masks.

    Args:
        detectors: trained on the same classes.
        views: in what ways each picture is looked at.

    Raises:
        InputError: the detectors know different classes.
    """

    def __init__(self, detectors: Sequence[Detector], views: ViewSettings) -> None:
        first = detectors[0]
        for other in detectors[1:]:
            if other.classes != first.classes:
                raise InputError(
                    f"an ensemble needs detectors of the same classes; one knows {', '.join(first.classes)}, "
                    f"another {', '.join(other.classes)}"
                )
        self.detectors, self.views = tuple(detectors), views
        self.sides = views.sides(first.settings.input.shorter)

    @property
    def settings(self) -> DetectorSettings:
        """The first detector's."""
        return self.detectors[0].settings

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        return self.detectors[0].classes

    @torch.inference_mode()
    def detect_arrays(self, images: Sequence[Picture], sizes: Sequence[NDArray[np.int64]]) -> FoundArrays:
        """``detect`` for numpy: [B, H, W, 3] uint8 and sizes [B, 2] at each of ``sides``."""
        first = self.detectors[0]
        device = first.normalize.mean.device
        batches = [torch.from_numpy(image).to(device).permute(0, 3, 1, 2) for image in images]
        with autocast(device, first.precision):
            found = self.detect(batches, [torch.from_numpy(size).to(device) for size in sizes])
        return to_arrays(found, self.settings)

    def finished(self, result: Detections) -> Detections:
        return self.detectors[0].finished(result)

    def detect(self, images: Sequence[Tensor], sizes: Sequence[Tensor]) -> DetectionBatch:
        """Detections in pixels of the first batch, which is at the detector's own size.

        Args:
            images: [B, 3, H, W] uint8 RGB, padded, at each of ``sides``.
            sizes: (height, width) of the valid area of each [B, 2], alike.
        """
        first = self.detectors[0]
        by_side = {side: _Sized(*batch) for side, *batch in zip(self.sides, images, sizes, strict=True)}
        plain = self._view(by_side, self.sides[0], flip=False)
        seen = [plain.pairs] if not self.views.scales or self.sides[0] in self.views.scales else []
        for side in self.views.scales or self.sides[:1]:
            for flip in (False, True) if self.views.flip else (False,):
                if (side, flip) != (self.sides[0], False):
                    pairs = self._view(by_side, side, flip).pairs
                    pairs = mirrored_back(pairs, by_side[side].sizes) if flip else pairs
                    seen.append(rescaled(pairs, by_side[side].sizes, sizes[0]))
        best = together(seen, first.settings.output.candidates) if len(seen) > 1 else seen[0]
        return first.finish(best, plain.exact, plain.pool)

    def _view(self, by_side: dict[int, _Sized], side: int, flip: bool) -> _Seen:
        """Every detector on one size, or on all sizes merged by maximum."""
        batch = by_side[side]
        images = mirrored(batch.images, batch.sizes) if flip else batch.images
        proposals: list[Proposals] = []
        poolers: list[RegionPooler] = []
        for detector in self.detectors:
            features, proposed = detector.eval().propose(images, batch.sizes)
            proposals.append(proposed)
            if self.views.maxout:
                poolers.append(self._maxout(detector, features, by_side, side, flip))
            else:
                poolers.append(SingleScalePooler(detector.head, features, detector.operators))
        scorers = [detector.scorer(pool, batch.sizes) for detector, pool in zip(self.detectors, poolers, strict=True)]
        every = union(proposals)
        pairs = self.detectors[0].pairs(mean_scorer(scorers), every, batch.sizes)
        return _Seen(pairs, every.exact, poolers[0])

    def _maxout(
        self, detector: Detector, own: Sequence[Tensor], by_side: dict[int, _Sized], side: int, flip: bool
    ) -> TwoScalePooler:
        levels, ratios = [], []
        for scale in sorted(self.views.maxout):
            batch = by_side[scale]
            images = mirrored(batch.images, batch.sizes) if flip else batch.images
            same = scale == side
            levels.append(own if same else detector.head.features(detector.normalize(images, batch.sizes)))
            ratios.append(batch.sizes.float() / by_side[side].sizes.float())
        return TwoScalePooler(detector.head, levels, torch.stack(ratios, 1), detector.operators)
