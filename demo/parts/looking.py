"""From uploads to results: reading, asking a model, timing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from backbones.images import Picture
from demo.model.finders import Finder
from demo.safety.limits import Limits
from demo.safety.uploads import Sent, Upload, read_uploads
from demo.view.found import Found, FoundPicture

Advance = Callable[[int, int], None]
"""Called with (done, all) after each picture."""
_AT_ONCE = 4


def find_in_uploads(
    finder: Finder, uploads: Sequence[Upload], limits: Limits, advance: Advance = lambda done, total: None
) -> Found:
    """Everything that a detector finds in uploads, of which no pixels are kept.

    Raises:
        InputError: an upload cannot be used, or the model does not answer.
    """
    sent = read_uploads(uploads, limits)
    pictures: list[FoundPicture] = []
    seconds = 0.0
    for start in range(0, len(sent), _AT_ONCE):
        part = sent[start : start + _AT_ONCE]
        pixels = [picture.pixels(limits) for picture in part]
        begun = time.perf_counter()
        answers = finder.find(pixels)
        seconds += time.perf_counter() - begun
        pictures += [FoundPicture(picture, found) for picture, found in zip(part, answers, strict=True)]
        advance(len(pictures), len(sent))
    return Found(finder.name, finder.classes, finder.score_thresholds, tuple(pictures), seconds)


def look_at_uploads(
    finder: Finder, uploads: Sequence[Upload], limits: Limits, advance: Advance = lambda done, total: None
) -> tuple[list[tuple[Sent, Picture, Any]], float]:
    """(upload, pixels, answer) of each, and the seconds that the model took.

    Raises:
        InputError: an upload cannot be used, or the model does not answer.
    """
    looked: list[tuple[Sent, Picture, Any]] = []
    seconds = 0.0
    sent = read_uploads(uploads, limits)
    for picture in sent:
        pixels = picture.pixels(limits)
        begun = time.perf_counter()
        answer = finder.find([pixels])[0]
        seconds += time.perf_counter() - begun
        looked.append((picture, pixels, answer))
        advance(len(looked), len(sent))
    return looked, seconds
