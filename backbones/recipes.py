"""Training recipes for classification: the numbers of sections 3.4 and 4.2, and a short one for small data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backbones.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Recipe:
    """How a classification network is trained.

    Attributes:
        images: length of the run in images seen.
        batch_size: the batch for which ``learning_rate`` is stated.
        learning_rate: its peak.
        shape, milestones: how it falls; milestones are fractions of the run.
        warmup_images: how long it climbs.
        momentum, weight_decay: of SGD; decay applies to every parameter.
        per_pixel_mean: subtract a mean picture and do not divide (the paper), or normalize each channel.
    """

    images: int
    batch_size: int
    learning_rate: float
    shape: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = ()
    warmup_images: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    per_pixel_mean: bool = True


RECIPES = {
    # Section 4.2: 64k iterations of 128, a tenth of the rate from 32k and again from 48k on.
    "paper": Recipe(64_000 * 128, 128, 0.1, milestones=(0.5, 0.75)),
    # Not the paper's: a few minutes on a CPU, for sets of a few thousand small images.
    "quick": Recipe(25_600, 64, 0.1, shape="cosine", warmup_images=2_000, weight_decay=5e-4, per_pixel_mean=False),
}


def find_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in RECIPES:
        raise InputError(f"no recipe is named {name!r}{did_you_mean(name, RECIPES)}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
