"""Which score each class must reach to be drawn and written."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from backbones.errors import InputError, did_you_mean
from detection.settings import DetectorSettings

logger = logging.getLogger("shortcut")
DEFAULT = 0.5
"""For models that store no thresholds of their own."""


def thresholds_by_class(settings: DetectorSettings, threshold: float | None, chosen: str | None) -> tuple[float, ...]:
    """The least score of each class, for ``Detections.above``; infinite for a class that is not wanted.

    Args:
        settings: of the model.
        threshold: one for all classes; by default those that the model stores, or 0.5.
        chosen: names of the wanted classes with commas between them; by default all.

    Raises:
        InputError: no such class, or a threshold that no score can be compared with.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold}: scores lie between 0 and 1")
    if threshold is not None and threshold < settings.output.score_threshold:
        logger.warning("the model itself leaves out scores up to %g", settings.output.score_threshold)
    count = len(settings.classes)
    stored = settings.score_thresholds if len(settings.score_thresholds) == count else (DEFAULT,) * count
    least = stored if threshold is None else (threshold,) * count
    if chosen is None:
        return tuple(least)
    wanted = _named(chosen, settings.classes)
    return tuple(score if name in wanted else math.inf for name, score in zip(settings.classes, least, strict=True))


def _named(chosen: str, classes: Sequence[str]) -> set[str]:
    """``cat,dog`` -> {cat, dog}; the whole text, if that is a class with a comma in its name."""
    names = [chosen] if chosen in classes else [name.strip() for name in chosen.split(",") if name.strip()]
    for name in names:
        if name not in classes:
            some = f"; it has {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}"
            raise InputError(f"--classes: the model knows no {name!r}{did_you_mean(name, classes) or some}")
    if not names:
        raise InputError("--classes: name one class or more, with commas between them")
    return set(names)
