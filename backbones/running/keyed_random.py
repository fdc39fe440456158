"""Random numbers that are functions of their key, so that a run can stop, resume or spread over processes.

Nothing here has a state. What is drawn for (seed, step, image) is the same on whichever process the image lands,
whatever else is in its batch, before and after a resume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_WORD = 0xFFFFFFFF


def generator(*key: int) -> np.random.Generator:
    """numpy's generator, seeded by a tuple of non-negative integers."""
    return np.random.default_rng(key)


def fold(*key: int) -> int:
    """One integer in [0, 2^62) for a tuple of non-negative integers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(2))


def uniform(keys: Tensor, positions: Tensor) -> Tensor:
    """A float in [0, 1) for each pair of a key and a position, by integer hashing.

    Args:
        keys: [B] int64, from ``fold``.
        positions: [N] or [B, N] int64, non-negative: what the number is for (an anchor, a region); their lowest 32 bits
            count.

    Returns:
        [B, N] float32, multiples of 2^-24.
    """
    low, high = (keys & _WORD)[:, None], (keys >> 32)[:, None]
    mixed = _mix(_mix(positions * 0x9E3779B1 + low & _WORD) ^ high)
    return (mixed >> 8).float() * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit words without visible structure (two multiply-xorshift rounds)."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & _WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & _WORD
    return x ^ (x >> 16)
