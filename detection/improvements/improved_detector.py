"""Testing with several sizes, mirror images and several detectors: the rest of appendix B, and today's alternatives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.images import Size, stack_padded
from backbones.running.precision import autocast
from detection.detections import Detections
from detection.detector import Detector, to_arrays, to_tensors
from detection.framing import Framed, batches_of_equal_size, frame, framed_ahead, unframe
from detection.improvements.ensemble import mean_scorer, union
from detection.improvements.multi_scale import TwoScalePooler
from detection.improvements.views import mirrored, mirrored_back, rescaled, together
from detection.pooling import RegionPooler, SingleScalePooler
from detection.proposals import Proposals
from detection.scoring import DetectionBatch, Pairs
from detection.settings import DetectorSettings, InputSettings


@dataclass(frozen=True)
class ViewSettings:
    """In what ways a picture is looked at.

    Attributes:
        maxout: shorter sides between which each region's features are merged by maximum; empty for one scale.
        scales: shorter sides whose detections are pooled; empty for the detector's own.
        flip: the mirror image too.
    """

    maxout: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()
    flip: bool = False


@dataclass(frozen=True)
class _Sized:
    """A batch at one size: images [B, 3, H, W] and valid sizes [B, 2]."""

    images: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class _FramedViews:
    """A picture at every size that is wanted, the detector's own first."""

    frames: tuple[Framed, ...]

    @property
    def number(self) -> int:
        return self.frames[0].number

    @property
    def padded(self) -> tuple[Size, ...]:
        return tuple(framed.padded for framed in self.frames)

    @property
    def pixels(self) -> int:
        return sum(framed.pixels for framed in self.frames)


@dataclass(frozen=True)
class _Seen:
    """What one view gives: pairs in its own pixels, whether proposals were exact, and the first detector's pooler."""

    pairs: Pairs
    exact: Tensor
    pool: RegionPooler


class ImprovedDetector:
    """One detector or several, with the ``predict`` of a ``Detector``.

    Refinement, voting and suppression follow the first detector's ``settings.output``; so do size and masks.

    Args:
        detectors: trained on the same classes.
        views: in what ways each picture is looked at.

    Raises:
        InputError: the detectors know different classes, or the views exclude each other.
    """

    def __init__(self, detectors: Sequence[Detector], views: ViewSettings) -> None:
        first = detectors[0]
        for other in detectors[1:]:
            if other.classes != first.classes:
                raise InputError(
                    f"an ensemble needs detectors of the same classes; one knows {', '.join(first.classes)}, "
                    f"another {', '.join(other.classes)}"
                )
        if views.maxout and views.scales:
            raise InputError("--maxout and --scales are two ways of using several sizes; give one of them")
        self.detectors, self.views = tuple(detectors), views
        own = first.settings.input.shorter
        self.sides = (own, *sorted({*views.maxout, *views.scales} - {own}))

    @property
    def settings(self) -> DetectorSettings:
        """The first detector's."""
        return self.detectors[0].settings

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        return self.detectors[0].classes

    def predict(self, images: Sequence[Any], batch_size: int = 8) -> list[Detections]:
        """As ``Detector.predict``."""
        found = dict(self.predict_each(images, batch_size))
        return [to_tensors(found[number]) for number in range(len(images))]

    def predict_each(self, images: Iterable[Any], batch_size: int = 8) -> Iterator[tuple[int, Detections]]:
        """As ``Detector.predict_each``."""
        for group in batches_of_equal_size(framed_ahead(self._frame, images), batch_size):
            batches = [self._batch(group, place) for place in range(len(self.sides))]
            found = to_arrays(self._detect(batches), self.settings)
            for row, picture in enumerate(group):
                yield picture.frames[0].number, unframe(picture.frames[0], found, row)

    def _frame(self, number: int, picture: Any) -> _FramedViews:
        return _FramedViews(tuple(frame(number, picture, self._input_at(side)) for side in self.sides))

    def _input_at(self, side: int) -> InputSettings:
        """The limit on the longer side grows with the shorter."""
        own = self.settings.input
        return replace(own, shorter=side, longer=max(side, round(own.longer * side / own.shorter)))

    def _batch(self, group: Sequence[_FramedViews], place: int) -> _Sized:
        frames = [picture.frames[place] for picture in group]
        images = stack_padded([framed.image for framed in frames], frames[0].padded)
        sizes = np.array([framed.image.shape[:2] for framed in frames], np.int64)
        device = self.detectors[0].normalize.mean.device
        return _Sized(torch.from_numpy(images).to(device).permute(0, 3, 1, 2), torch.from_numpy(sizes).to(device))

    @torch.inference_mode()
    def _detect(self, batches: Sequence[_Sized]) -> DetectionBatch:
        """Detections in pixels of the first batch, which is at the detector's own size."""
        first = self.detectors[0]
        by_side = dict(zip(self.sides, batches, strict=True))
        with autocast(first.normalize.mean.device, first.precision):
            plain = self._view(by_side, self.sides[0], flip=False)
            seen = [plain.pairs] if not self.views.scales or self.sides[0] in self.views.scales else []
            for side in self.views.scales or self.sides[:1]:
                for flip in (False, True) if self.views.flip else (False,):
                    if (side, flip) != (self.sides[0], False):
                        pairs = self._view(by_side, side, flip).pairs
                        pairs = mirrored_back(pairs, by_side[side].sizes) if flip else pairs
                        seen.append(rescaled(pairs, by_side[side].sizes, batches[0].sizes))
            return first.finish(together(seen), plain.exact, plain.pool)

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
