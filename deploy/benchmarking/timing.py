"""Calls that take turns, and what their times say; among them the machine's rate of matrix products in fp32, which
shares are taken of. Numpy only."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

Turns = list[list[float]]
"""Seconds of each call, turn by turn."""
SIDE = 2048
WORK = float(SIDE**3)
"""Multiply-adds of one product."""


@dataclass(frozen=True)
class Spread:
    """The middle of turns, and the least and the largest."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(float(np.median(values)), float(min(values)), float(max(values)))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.min:.2f}-{self.max:.2f})"


@dataclass(frozen=True)
class Timing:
    """Of one subject at one batch.

    Attributes:
        batch: images at once.
        calls: that were timed.
        p50, p95, p99: latency of a batch in milliseconds.
        images_per_second: over all turns.
        ratio: how many times faster than the one that it is compared with, turn by turn.
        share: of the machine's matrix-product peak, turn by turn; None where the work is not known.
    """

    batch: int
    calls: int
    p50: float
    p95: float
    p99: float
    images_per_second: float
    ratio: Spread
    share: Spread | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values with four significant digits."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def take_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, seconds: float, turned: Callable[[], object] = lambda: None
) -> dict[str, Turns]:
    """Time calls turn by turn, each turn of at least so many seconds, and each round beginning with another.

    Two calls of each come before, and are not counted.

    Args:
        calls: by name.
        rounds: turns of each.
        seconds: that a turn lasts at least.
        turned: called after each turn.
    """
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, math.ceil(seconds / max(_timed(call), 1e-6)))
    names = list(calls)
    turns: dict[str, Turns] = {name: [] for name in names}
    for round_ in range(rounds):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            turns[name].append([_timed(calls[name]) for _ in range(counts[name])])
            turned()
    return turns


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def summarize(
    turns: Turns, batch: int, base: Turns, base_batch: int, work: float | None = None, peak: Turns | None = None,
    peak_work: float = 0.0,
) -> Timing:  # fmt: skip
    """What turns say.

    Args:
        turns: of the subject.
        batch: its images at once.
        base, base_batch: the same of what it is compared with.
        work: multiply-adds of one image.
        peak: turns of a matrix product in the same run.
        peak_work: its multiply-adds.
    """
    every = np.concatenate([np.array(turn) for turn in turns])
    p50, p95, p99 = np.percentile(every, (50, 95, 99)) * 1000
    rates = [batch * len(turn) / sum(turn) for turn in turns]
    base_rates = [base_batch * len(turn) / sum(turn) for turn in base]
    ratio = Spread.of([rate / other for rate, other in zip(rates, base_rates, strict=True)])
    share = None
    if work is not None and peak is not None:
        fastest = [peak_work / min(turn) for turn in peak]
        share = Spread.of([rate * work / best for rate, best in zip(rates, fastest, strict=True)])
    return Timing(batch, len(every), p50, p95, p99, batch * len(every) / float(every.sum()), ratio, share)


def matrix_product() -> Callable[[], object]:
    """One square product, to be timed."""
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Numpy on so many processors, where ``threadpoolctl`` (which comes with scikit-learn) is there to see to it."""
    if threads is None or find_spec("threadpoolctl") is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, user_api="blas"):
        yield


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
