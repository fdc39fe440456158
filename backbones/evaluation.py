"""Error rates of classifiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BATCH = 256


@dataclass(frozen=True)
class ErrorRates:
    """In per cent, as the paper states them.

    Attributes:
        top1: images whose best-scored class is wrong.
        top5: images whose class is not among the five best.
        images: how many were looked at.
    """

    top1: float
    top5: float
    images: int

    def as_metrics(self) -> dict[str, float]:
        return {"top1_error": self.top1, "top5_error": self.top5}


def rates_of(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> ErrorRates:
    """Error rates of scores [N, K] against labels [N]; with fewer than five classes top-5 looks at all."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    right = order == np.asarray(labels)[:, None]
    return ErrorRates(100 * (1 - float(right[:, 0].mean())), 100 * (1 - float(right.any(1).mean())), len(right))


def ranks_of(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """The place of each picture's class among all classes by score, from 1: [N, K] and [N] -> [N].

    Of classes with equal scores the earlier one comes first, as in ``rates_of``.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    places: NDArray[np.int64] = np.argmax(order == np.asarray(labels)[:, None], axis=1)
    return places + 1
