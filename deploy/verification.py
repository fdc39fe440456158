"""Whether an exported file gives what the trained model gives, at batches and sizes that it was not traced with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from backbones.classifier import Classifier
from backbones.errors import InputError
from backbones.images import Picture, padded_size, resize, stack_padded
from backbones.resnet import ResNet
from deploy.gates import GATES, Gate, Verdict
from deploy.runtimes.exported_models import ClassifierRuntime, DetectorRuntime, SegmenterRuntime
from detection.agreement import COUNTED_SCORE, Agreement, agreement
from detection.detections import Detections
from detection.detector import Detector
from detection.framing import FoundArrays, frame
from detection.masks.pasting import paste
from detection.metrics.voc import pairwise_iou
from detection.segmentation.segmenter import Segmenter
from detection.settings import InputSettings

BATCHES = ((1, 1.0), (2, 0.75), (5, 0.625), (1, 1.25))
"""Pictures at once, and their size as a multiple of the model's own; the graph was traced at none of them."""


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        engine: whose results were compared with the trained model's.
        batch: images at once.
        size: (height, width) of the padded batch.
        counted, met: detections of both sides with a score of at least 0.05, or pixels, and how many agree.
        differences: of each output, the largest: of boxes in pixels and of scores, between counterparts; of logits and
            activation maps over the largest value.
    """

    engine: str
    batch: int
    size: tuple[int, int]
    counted: int = 0
    met: int = 0
    differences: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """All comparisons, and what the gate says of them.

    ``verdict`` is None where no engine here runs the file.
    """

    checks: tuple[Check, ...]
    verdict: Verdict | None

    @property
    def passed(self) -> bool | None:
        return None if self.verdict is None else self.verdict.passed

    @property
    def summary(self) -> str:
        return "not verified: no engine here runs this precision" if self.verdict is None else self.verdict.summary

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "summary": self.summary, "checks": [asdict(check) for check in self.checks]}

    def table(self) -> list[str]:
        """Lines for people."""
        rows = [("engine", "batch", "height x width", "agree", "largest difference")]
        for check in self.checks:
            agree = f"{check.met} of {check.counted}" if check.counted else ""
            apart = ", ".join(f"{name} {value:.1e}" for name, value in check.differences.items())
            rows.append((check.engine, str(check.batch), f"{check.size[0]} x {check.size[1]}", agree, apart))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lined = ("  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows)
        return [line.rstrip() for line in lined]


def together(verifications: Sequence[Verification]) -> Verification:
    """Those of several engines, with the verdict on the worst: the one that leaves least of its gate, or fails most."""
    checks = tuple(check for verification in verifications for check in verification.checks)
    verdicts = [verification.verdict for verification in verifications if verification.verdict is not None]
    return Verification(checks, max(verdicts, key=lambda verdict: verdict.used, default=None))


def verify_detector(
    detector: Detector,
    runtime: DetectorRuntime,
    pictures: Sequence[Picture],
    gate: Gate = GATES["fp32"],
) -> Verification:
    """Compare detections, pictures of different sizes sharing padded batches.

    Args:
        detector: the trained one.
        runtime: the exported one.
        pictures: real ones; each is looked at.
        gate: what is allowed.

    Raises:
        InputError: nothing is detected, so there is nothing to compare.
    """

    def pairs() -> Iterator[Pair]:
        for scale, chosen in rounds(pictures):
            images, sizes = padded_batch(chosen, detector.settings.input, scale)
            ours, theirs = (model.detect_arrays(images, sizes) for model in (detector, runtime))
            yield images, sizes, ours, theirs

    return compare_detections(runtime.session.engine, pairs(), gate)


Pair = tuple[Picture, np.ndarray, FoundArrays, FoundArrays]
"""One padded batch [B, H, W, 3] with valid sizes [B, 2], and what the trained and the exported detector find."""


def compare_detections(engine: str, pairs: Iterable[Pair], gate: Gate) -> Verification:
    """Count the detections that agree.

    Raises:
        InputError: nothing is detected, so there is nothing to compare.
    """
    checks = []
    total = Agreement(0, 0, 0, 0)
    for images, sizes, trained, exported in pairs:
        ours, theirs = (as_detections(found, sizes) for found in (trained, exported))
        same = agreement(ours, theirs, gate.score, gate.overlap)
        total += same
        batch, height, width, _ = images.shape
        apart = _differences(ours, theirs, gate)
        checks.append(Check(engine, batch, (height, width), same.counted, same.met, apart))
    if not total.counted:
        raise InputError("nothing is detected on the pictures to verify with; give --images DIR with objects to find")
    summary = (
        f"{total.met} of {total.counted} detections agree in {engine} "
        f"({total.rate:.2%}, at least {gate.agreement:.1%} needed)"
    )
    return Verification(tuple(checks), Verdict("agreement", engine, total.rate, gate.agreement, summary))


def verify_segmenter(
    segmenter: Segmenter, runtime: SegmenterRuntime, pictures: Sequence[Picture], gate: Gate = GATES["fp32"]
) -> Verification:
    """Compare labels, pixel by pixel, and their probabilities. Arguments as for ``verify_detector``."""
    checks = []
    for scale, chosen in rounds(pictures):
        images, sizes = padded_batch(chosen, segmenter.settings.input, scale)
        ours, theirs = (model.segment_arrays(images, sizes) for model in (segmenter, runtime))
        inside = np.zeros(images.shape[:3], bool)
        for row, (height, width) in enumerate(sizes.tolist()):
            inside[row, :height, :width] = True
        same = (ours.labels == theirs.labels) & inside
        apart = {"scores": float(abs(ours.scores - theirs.scores)[same].max(initial=0))}
        checks.append(_check(runtime, len(chosen), images, int(inside.sum()), int(same.sum()), apart))
    rate = sum(check.met for check in checks) / sum(check.counted for check in checks)
    engine = runtime.session.engine
    summary = f"{rate:.3%} of pixels agree in {engine} (at least {gate.pixels:.1%} needed)"
    return Verification(tuple(checks), Verdict("pixels", engine, rate, gate.pixels, summary))


def verify_classifier(
    classifier: Classifier, runtime: ClassifierRuntime, pictures: Sequence[Picture], gate: Gate = GATES["fp32"]
) -> Verification:
    """Compare logits and activation maps; at other sizes too, where the normalization allows it."""
    checks = []
    for batch, images in classifier_batches(classifier, pictures):
        wanted = classifier_outputs(classifier, images)
        found = runtime.session.run({"images": images})
        same = wanted["logits"].argmax(1) == found["logits"].argmax(1)
        apart = {"logits": relative(found["logits"], wanted["logits"])}
        if "activation_map" in found and same.any():  # of the same class
            apart["activation_map"] = relative(found["activation_map"][same], wanted["activation_map"][same])
        checks.append(_check(runtime, batch, images, 0, 0, apart))
    worst = max(value if np.isfinite(value) else np.inf for check in checks for value in check.differences.values())
    engine = runtime.session.engine
    summary = f"outputs differ by {worst:.1e} of the largest value in {engine} ({gate.logits:.0e} allowed)"
    return Verification(tuple(checks), Verdict("logits", engine, worst, gate.logits, summary))


@torch.inference_mode()
def classifier_outputs(classifier: Classifier, images: Picture) -> dict[str, np.ndarray]:
    """What the trained classifier gives: logits [B, K], and the activation map [B, h, w] by its definition."""
    logits = classifier.logits(images)
    if not isinstance(classifier.network, ResNet):
        return {"logits": logits}
    pixels = classifier.normalize(torch.from_numpy(images).permute(0, 3, 1, 2))
    *_, last = classifier.network.features(pixels).values()
    own = classifier.network.fc.weight[torch.from_numpy(logits.argmax(1))]  # type: ignore[index]
    return {"logits": logits, "activation_map": torch.einsum("bchw,bc->bhw", last, own).numpy()}


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference over the largest value."""
    return float(abs(found - wanted).max() / max(abs(wanted).max(), 1e-12))


def classifier_batches(classifier: Classifier, pictures: Sequence[Picture]) -> Iterator[tuple[int, Picture]]:
    """(pictures at once, batch [B, H, W, 3]) at each of ``BATCHES``."""
    base = classifier.convention.size or (224, 224)
    fixed = classifier.normalize.mean.shape[1:] != (1, 1)
    for batch, scale in BATCHES:
        size = base if fixed else (max(20, round(base[0] * scale)), max(24, round(base[1] * scale) + 8))
        yield batch, np.stack([resize(pictures[number % len(pictures)], size) for number in range(batch)])


def rounds(pictures: Sequence[Picture]) -> Iterator[tuple[float, list[Picture]]]:
    """(multiple of the model's own size, pictures of one batch), ``BATCHES`` over and over until each had its turn."""
    endless = itertools.cycle(pictures)
    for _ in range(math.ceil(len(pictures) / sum(batch for batch, _ in BATCHES))):
        for batch, scale in BATCHES:
            yield scale, list(itertools.islice(endless, batch))


def padded_batch(
    pictures: Sequence[Picture], settings: InputSettings, scale: float = 1.0
) -> tuple[Picture, np.ndarray]:
    """Pictures at a multiple of the model's own size -> [B, H, W, 3] and sizes [B, 2]."""
    shorter = max(settings.multiple, round(settings.shorter * scale))
    longer = max(shorter, round(settings.longer * scale))
    resized = replace(settings, shorter=shorter, longer=longer)
    framed = [frame(number, picture, resized) for number, picture in enumerate(pictures)]
    sizes = np.array([picture.image.shape[:2] for picture in framed], np.int64)
    padded = padded_size((int(sizes[:, 0].max()), int(sizes[:, 1].max())), settings.multiple)
    return stack_padded([picture.image for picture in framed], padded), sizes


def as_detections(found: FoundArrays, sizes: np.ndarray) -> list[Detections]:
    """Detections of each image, in pixels of the batch."""
    each = []
    for row, size in enumerate(sizes.tolist()):
        real = found.scores[row] > 0
        boxes = found.boxes[row, real]
        masks = None if found.masks is None else paste(found.masks[row, real], boxes, (size[0], size[1]))
        each.append(Detections(boxes, found.scores[row, real], found.labels[row, real], masks))
    return each


def _check(
    runtime: DetectorRuntime | SegmenterRuntime | ClassifierRuntime,
    batch: int,
    images: Picture,
    counted: int,
    met: int,
    differences: dict[str, float],
) -> Check:
    return Check(runtime.session.engine, batch, (images.shape[1], images.shape[2]), counted, met, differences)


def _differences(ours: Sequence[Detections], theirs: Sequence[Detections], gate: Gate) -> dict[str, float]:
    """The largest between detections of one class whose boxes are the same."""
    boxes, scores = 0.0, 0.0
    for a, b in zip(ours, theirs, strict=True):
        counted = np.asarray(a.scores) >= COUNTED_SCORE
        if not counted.any() or not len(b):
            continue
        mine, other = np.asarray(a.boxes)[counted], np.asarray(b.boxes)
        overlaps = pairwise_iou(mine.astype(np.float64), other.astype(np.float64))
        overlaps = np.where(np.asarray(a.labels)[counted][:, None] == np.asarray(b.labels), overlaps, 0)
        best, same = overlaps.argmax(1), overlaps.max(1) > gate.overlap
        if same.any():
            boxes = max(boxes, float(abs(mine - other[best])[same].max()))
            scores = max(scores, float(abs(np.asarray(a.scores)[counted] - np.asarray(b.scores)[best])[same].max()))
    return {"boxes": boxes, "scores": scores}
