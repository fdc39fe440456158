"""From which score on to believe a detection: an explicit threshold, else the model's own, else 0.5.

The model's own are those of the best F1 on validation data. Every surface that shows what is found asks
``thresholds_by_class``; metrics count all scores.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from backbones.errors import InputError, did_you_mean
from detection.metrics.voc import ClassCurve
from detection.settings import DetectorSettings

logger = logging.getLogger("shortcut")
DEFAULT = 0.5
"""For models and classes of which nothing is known."""


@dataclass(frozen=True)
class OperatingPoint:
    """One class at one score threshold.

    Attributes:
        threshold: detections with at least this score are kept.
        f1, precision, recall: of what is kept; 0 where nothing right is found, -1 for a class without objects.
    """

    threshold: float
    f1: float
    precision: float
    recall: float


def best_point(curve: ClassCurve) -> OperatingPoint:
    """The threshold of the best F1; of equally good ones the highest.

    It lies halfway between the weakest score that is kept and the next one (or 0), so that rounding of scores, in
    another precision or an exported graph, moves no detection across it. Detections of equal score are kept or left
    together. Without objects, or where none is found, it is 0.5.
    """
    if not curve.objects:
        return OperatingPoint(DEFAULT, -1.0, -1.0, -1.0)
    scores = curve.scores
    last = np.flatnonzero(np.append(scores[1:] < scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    hits = np.rint(curve.recall[last] * curve.objects)
    f1 = 2 * hits / (last + 1 + curve.objects)  # from whole numbers, so that equals are equal
    if not f1.any():
        return OperatingPoint(DEFAULT, 0.0, 0.0, 0.0)
    best = int(f1.argmax())
    following = float(scores[last[best + 1]]) if best + 1 < len(last) else 0.0
    chosen = int(last[best])
    threshold = (float(scores[chosen]) + following) / 2
    return OperatingPoint(threshold, float(f1[best]), float(curve.precision[chosen]), float(curve.recall[chosen]))


def best_thresholds(curves: Sequence[ClassCurve]) -> tuple[float, ...]:
    """The score threshold of each class, from VOC's curves on validation data."""
    return tuple(best_point(curve).threshold for curve in curves)


class Thresholded(Protocol):
    """What ``thresholds_by_class`` asks of a model: ``DetectorSettings`` has it."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def score_thresholds(self) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class StoredThresholds:
    """What a model stores, where the model itself is not at hand."""

    classes: tuple[str, ...]
    score_thresholds: tuple[float, ...]


def thresholds_by_class(
    model: Thresholded,
    threshold: float | None = None,
    chosen: str | Sequence[str] | None = None,
    option: str = "--classes",
) -> tuple[float, ...]:
    """The least score of each class, for ``Detections.above``; infinite for a class that is not wanted.

    Args:
        model: its classes, and the thresholds that it stores: one for each class, or none.
        threshold: one for all classes, 0 for everything; by default those that the model stores, or 0.5.
        chosen: names of the wanted classes, also as one text with commas between them; by default all.
        option: how errors call ``chosen``.

    Raises:
        InputError: no such class, or a threshold that no score can be compared with.
    """
    if threshold is not None:
        threshold = _one_score(threshold)
    count = len(model.classes)
    stored = model.score_thresholds if len(model.score_thresholds) == count else (DEFAULT,) * count
    least = stored if threshold is None else (threshold,) * count
    if chosen is None:
        return tuple(least)
    wanted = _named(chosen, model.classes, option)
    return tuple(score if name in wanted else math.inf for name, score in zip(model.classes, least, strict=True))


def warn_of_limit(settings: DetectorSettings, threshold: float | None) -> None:
    """Say so where a threshold asks for scores that the model itself leaves out; 0 asks for what there is."""
    if threshold and threshold < settings.output.score_threshold:
        logger.warning("the model itself leaves out scores up to %g", settings.output.score_threshold)


def _one_score(threshold: Any) -> float:
    """Any kind of number, numpy's and torch's too.

    Raises:
        InputError: it is none, or no score can be compared with it.
    """
    try:
        value = math.nan if isinstance(threshold, bool | str) or np.ndim(threshold) else float(threshold)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 1:
        raise InputError(f"threshold {threshold}: scores lie between 0 and 1; give one number for all classes")
    return value


def _named(chosen: str | Sequence[str], classes: Sequence[str], option: str) -> set[str]:
    """``cat,dog`` -> {cat, dog}; the whole text, if that is a class with a comma in its name."""
    if not isinstance(chosen, str):
        names = list(chosen)
    else:
        names = [chosen] if chosen in classes else [name.strip() for name in chosen.split(",") if name.strip()]
    for name in names:
        if name not in classes:
            some = f"; it has {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}"
            raise InputError(f"{option}: the model knows no {name!r}{did_you_mean(name, classes) or some}")
    if not names:
        raise InputError(f"{option}: name one class or more, with commas between them")
    return set(names)
