"""A training and a validation part for data that comes without."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.running.keyed_random import generator

VALIDATION_SHARE = 0.2


def seeded_split(names: Sequence[str], split: str) -> list[str]:
    """The names of one part, a function of each name alone: it stays where it is when others come or go.

    Args:
        names: all of them.
        split: ``train`` (four fifths) or ``val``.

    Raises:
        InputError: another split is asked for, or a part would be empty.
    """
    if split not in ("train", "val"):
        raise InputError(f"the data has no splits of its own; made ones are train and val, not {split!r}")
    parts: dict[str, list[str]] = {"train": [], "val": []}
    for name in names:
        parts[made_part(name)].append(name)
    if not parts[split]:
        raise InputError(f"{len(names)} images are too few to divide into train and val; divide them yourself")
    return parts[split]


def made_part(name: str) -> str:
    """``train`` or ``val``: where ``seeded_split`` puts a name."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "val" if place < VALIDATION_SHARE else "train"


def hold_out(count: int, held: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers below ``count``, divided at random but always alike: those to train on, and ``held`` to choose by."""
    order = generator(count, held).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])
