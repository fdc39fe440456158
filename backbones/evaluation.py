"""Error rates of classifiers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
    """Score a model on images of one size.

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
    return rates_of(logits, labels)


def rates_of(scores: Tensor, labels: Tensor) -> ErrorRates:
    """Error rates of scores [N, K] against labels [N]; with fewer than five classes top-5 looks at all."""
    best = scores.topk(min(5, scores.shape[1]), 1).indices == labels[:, None]
    return ErrorRates(
        100 * (1 - best[:, 0].double().mean().item()), 100 * (1 - best.any(1).double().mean().item()), len(labels)
    )
