"""Whether an exported file gives what the trained model gives, at batches and sizes that it was not traced with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from backbones.classifier import Classifier
from backbones.errors import InputError
from backbones.images import Picture, padded_size, resize, stack_padded
from deploy.runtimes.classifier import ClassifierRuntime
from deploy.runtimes.detector import DetectorRuntime
from detection.agreement import Agreement, agreement
from detection.detections import Detections
from detection.detector import Detector
from detection.framing import FoundArrays, frame
from detection.masks.pasting import paste

BATCHES = (1, 2, 5)
SCALES = (1.0, 0.75, 1.25)
"""The n-th batch is checked at this multiple of the model's own size; the graph was traced at none of them."""
LEAST_AGREEMENT = 0.995
LARGEST_ERROR = 1e-4


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        batch: images at once.
        size: (height, width) of the padded batch.
        counted, met: detections of both sides with a score of at least 0.05, and how many have a counterpart.
        error: of classifiers, the largest difference of logits over the largest logit.
    """

    batch: int
    size: tuple[int, int]
    counted: int = 0
    met: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class Verification:
    """All comparisons, and whether they pass the gate."""

    checks: tuple[Check, ...]
    passed: bool
    summary: str

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "summary": self.summary, "checks": [asdict(check) for check in self.checks]}


def verify_detector(
    detector: Detector, runtime: DetectorRuntime, pictures: Sequence[Picture], rounds: int = 1
) -> Verification:
    """Compare detections, pictures of different sizes sharing padded batches.

    Args:
        rounds: batches of each kind; later ones begin where the one before ended.

    Raises:
        InputError: nothing is detected, so there is nothing to compare.
    """
    checks = []
    total = Agreement(0, 0, 0, 0)
    for number, (batch, scale) in itertools.product(range(rounds), zip(BATCHES, SCALES, strict=True)):
        chosen = [pictures[(number * batch + index) % len(pictures)] for index in range(batch)]
        images, sizes = _mixed_batch(chosen, detector, scale)
        ours, theirs = (_each(model.detect_arrays(images, sizes), sizes) for model in (detector, runtime))
        same = agreement(ours, theirs)
        total += same
        checks.append(Check(batch, (images.shape[1], images.shape[2]), same.counted, same.met))
    if not total.counted:
        raise InputError("nothing is detected on the pictures to verify with; give --images DIR with objects to find")
    summary = (
        f"{total.met} of {total.counted} detections agree ({total.rate:.2%}, at least {LEAST_AGREEMENT:.1%} needed)"
    )
    return Verification(tuple(checks), total.rate >= LEAST_AGREEMENT, summary)


def verify_classifier(classifier: Classifier, runtime: ClassifierRuntime, pictures: Sequence[Picture]) -> Verification:
    """Compare logits; at other sizes too, where the normalization allows it."""
    checks = []
    base = classifier.convention.size or (224, 224)
    fixed = classifier.normalize.mean.shape[1:] != (1, 1)
    for batch, scale in zip(BATCHES, SCALES, strict=True):
        size = base if fixed else (max(32, round(base[0] * scale)), max(32, round(base[1] * scale) + 8))
        chosen = [resize(pictures[number % len(pictures)], size) for number in range(batch)]
        images = np.stack(chosen)
        wanted = classifier.logits(images)
        error = float(abs(runtime.logits(images) - wanted).max() / abs(wanted).max())
        checks.append(Check(batch, size, error=error))
    worst = max(check.error for check in checks)
    summary = f"logits differ by {worst:.1e} of the largest ({LARGEST_ERROR:.0e} allowed)"
    return Verification(tuple(checks), worst <= LARGEST_ERROR, summary)


def _mixed_batch(pictures: Sequence[Picture], detector: Detector, scale: float) -> tuple[Picture, np.ndarray]:
    settings = detector.settings.input
    shorter = max(settings.multiple, round(settings.shorter * scale))
    longer = max(shorter, round(settings.longer * scale))
    resized = replace(settings, shorter=shorter, longer=longer)
    framed = [frame(number, picture, resized) for number, picture in enumerate(pictures)]
    sizes = np.array([picture.image.shape[:2] for picture in framed], np.int64)
    padded = padded_size((int(sizes[:, 0].max()), int(sizes[:, 1].max())), settings.multiple)
    return stack_padded([picture.image for picture in framed], padded), sizes


def _each(found: FoundArrays, sizes: np.ndarray) -> list[Detections]:
    """Detections of each image, in pixels of the batch."""
    each = []
    for row, size in enumerate(sizes.tolist()):
        real = found.scores[row] > 0
        boxes = found.boxes[row, real]
        masks = None if found.masks is None else paste(found.masks[row, real], boxes, (size[0], size[1]))
        each.append(Detections(boxes, found.scores[row, real], found.labels[row, real], masks))
    return each
