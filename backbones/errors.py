"""The one exception that means: the input is at fault, and here is what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line: what is wrong, where (file, image, box), and what to do. Commands print it
    without a traceback and end with status 1.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'resnet50'?)`` for a misspelt word, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
