"""The machine's rate of matrix products in fp32, which shares are taken of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np

SIDE = 2048
WORK = float(SIDE**3)
"""Multiply-adds of one product."""


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
