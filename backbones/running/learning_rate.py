"""The learning rate as a function of images seen, and of what the run has seen of itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Shape = Literal["step", "cosine", "plateau"]


@dataclass(frozen=True)
class Observed:
    """What a run has noted about itself that its learning rate depends on; a checkpoint holds it.

    Attributes:
        warmup_end: images seen when the training error had fallen far enough to end the warm-up; None before.
        errors: the validation errors so far, in per cent, oldest first.
    """

    warmup_end: int | None = None
    errors: tuple[float, ...] = ()


NOTHING = Observed()


@dataclass(frozen=True)
class RecipeSchedule:
    """What every recipe says of a run's course.

    Attributes:
        images: length of the run in images seen.
        batch_size: images of a step.
        learning_rate: its peak, stated for the trainer's reference batch.
        shape: of the learning rate over the run.
        milestones: parts of the run after which it falls to a tenth (shape "step").
        warmup_images: over which it climbs.
        weight_decay: of SGD.
    """

    images: int
    batch_size: int
    learning_rate: float
    shape: Shape = "step"
    milestones: tuple[float, ...] = ()
    warmup_images: int = 0
    weight_decay: float = 1e-4


@dataclass(frozen=True)
class Schedule:
    """A learning rate over a run, stated for a reference batch and independent of the real one.

    Attributes:
        peak: the learning rate at the reference batch; it scales linearly with the real batch.
        reference_batch: 16 for detection, 256 for ImageNet, 128 for CIFAR.
        images: images seen by the end of the run.
        milestones: fractions of ``images`` at which the rate drops to ``factor`` of itself (shape "step").
        warmup_images: images over which the rate climbs linearly from ``warmup_start`` of its value.
        shape: "step", "cosine" to zero, or "plateau": a drop whenever the validation error stops falling.
        patience, least_gain: of "plateau", as for ``count_drops``.
        error_warmup: the rate, as a part of the peak, that holds until the training error is low enough
            (section 4.2 starts 110 layers at 0.01 of 0.1); None for no such warm-up.
    """

    peak: float
    reference_batch: int
    images: int
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    warmup_images: int = 0
    warmup_start: float = 0.001
    shape: Shape = "step"
    patience: int = 5
    least_gain: float = 0.1
    error_warmup: float | None = None

    def scaled_peak(self, batch: int) -> float:
        """The peak for a batch of ``batch`` images."""
        return self.peak * batch / self.reference_batch

    def at(self, images_seen: int, batch: int, observed: Observed = NOTHING) -> float:
        """The rate of the step that starts after ``images_seen`` images."""
        rate = self.scaled_peak(batch)
        if self.error_warmup is not None and (observed.warmup_end is None or images_seen < observed.warmup_end):
            return rate * self.error_warmup
        if self.shape == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, images_seen / self.images)))
        elif self.shape == "plateau":
            rate *= self.factor ** count_drops(observed.errors, self.patience, self.least_gain)
        else:
            rate *= self.factor ** sum(images_seen >= fraction * self.images for fraction in self.milestones)
        if images_seen < self.warmup_images:
            progress = images_seen / self.warmup_images
            rate *= self.warmup_start + (1 - self.warmup_start) * progress
        return rate


def count_drops(errors: Sequence[float], patience: int, least_gain: float) -> int:
    """How often the error has stopped falling: the paper's "divided by 10 when the error plateaus" (section 3.4).

    Args:
        errors: of the evaluations so far, in per cent.
        patience: evaluations without a gain after which the rate drops; counting starts anew after each drop.
        least_gain: what counts as one, in per cent, against the best error so far.
    """
    best, waited, drops = math.inf, 0, 0
    for error in errors:
        if error <= best - least_gain:
            best, waited = error, 0
            continue
        waited += 1
        if waited == patience:
            waited, drops = 0, drops + 1
    return drops
