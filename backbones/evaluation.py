"""Error rates of classifiers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backbones.convention import InputConvention
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.protocols.scoring import Logits
from backbones.running.precision import autocast

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


@torch.inference_mode()
def error_rates(model: nn.Module, pixels: Tensor, labels: Tensor, precision: str = "fp32") -> ErrorRates:
    """Score a model on images of one size that lie on its device.

    Args:
        model: [B, 3, H, W] uint8 -> logits [B, K].
        pixels: [N, 3, H, W] uint8.
        labels: [N].
        precision: of convolutions and matrix products.
    """
    training = model.training
    model.eval()
    with autocast(labels.device, precision):
        logits = torch.cat([model(batch).float() for batch in pixels.split(_BATCH)])
    model.train(training)
    return rates_of(logits.cpu().numpy(), labels.cpu().numpy())


def center_crop_scores(
    logits: Logits, pictures: Iterable[Picture], convention: InputConvention, batch_size: int
) -> NDArray[np.floating]:
    """Logits [N, K] of the centre crops of pictures of any size."""
    framed = (frame_for_classifier(picture, convention) for picture in pictures)
    return np.concatenate([logits(np.stack(batch)) for batch in _batched(framed, batch_size)])


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


def _batched(items: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
