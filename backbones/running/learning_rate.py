"""The learning rate as a function of images seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """A learning rate over a run, stated for a reference batch and independent of the real one.

    Attributes:
        peak: the learning rate at the reference batch; it scales linearly with the real batch.
        reference_batch: 16 for detection, 256 for ImageNet, 128 for CIFAR.
        images: images seen by the end of the run.
        milestones: fractions of ``images`` at which the rate drops to ``factor`` of itself (shape "step").
        warmup_images: images over which the rate climbs linearly from ``warmup_start`` of its value.
        shape: "step", or "cosine" to zero.
    """

    peak: float
    reference_batch: int
    images: int
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    warmup_images: int = 0
    warmup_start: float = 0.001
    shape: Literal["step", "cosine"] = "step"

    def scaled_peak(self, batch: int) -> float:
        """The peak for a batch of ``batch`` images."""
        return self.peak * batch / self.reference_batch

    def at(self, images_seen: int, batch: int) -> float:
        """The rate of the step that starts after ``images_seen`` images."""
        rate = self.scaled_peak(batch)
        if self.shape == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, images_seen / self.images)))
        else:
            rate *= self.factor ** sum(images_seen >= fraction * self.images for fraction in self.milestones)
        if images_seen < self.warmup_images:
            progress = images_seen / self.warmup_images
            rate *= self.warmup_start + (1 - self.warmup_start) * progress
        return rate
