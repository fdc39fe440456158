"""Training recipes for classification: the numbers of sections 3.4 and 4.2, and what is done today."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from backbones.errors import InputError, did_you_mean
from backbones.running.learning_rate import RecipeSchedule
from backbones.variants import VARIANTS, ResNetVariant

Augmentation = Literal["pad-crop", "scale-jitter", "resized-crop"]
Decay = Literal["all", "weights"]


@dataclass(frozen=True)
class Recipe(RecipeSchedule):
    """How a classification network is trained.

    Attributes:
        batch_size: also the batch for which ``learning_rate`` is stated.
        error_warmup: the part of the rate that holds until the training error is below 80 %; None for no such start.
        momentum: of SGD.
        decay: whether decay applies to every parameter, or to the weights of convolutions and linear layers only.
        per_pixel_mean: subtract a mean picture and do not divide (the paper), or normalize each channel.
        augmentation: "pad-crop" (section 4.2), "scale-jitter" (section 3.4), or "resized-crop" (Inception's).
        lighting: add multiples of the principal components of colour (section 3.4).
        label_smoothing: of the cross entropy.
        zero_last_gamma: each residual branch starts at zero.
    """

    error_warmup: float | None = None
    momentum: float = 0.9
    decay: Decay = "all"
    per_pixel_mean: bool = True
    augmentation: Augmentation = "pad-crop"
    lighting: bool = False
    label_smoothing: float = 0.0
    zero_last_gamma: bool = False


CIFAR = Recipe(64_000 * 128, 128, 0.1, milestones=(0.5, 0.75))
"""Section 4.2: 64k iterations of 128, a tenth of the rate from 32k and again from 48k on."""

IMAGENET = Recipe(
    600_000 * 256, 256, 0.1, shape="plateau", augmentation="scale-jitter", lighting=True,
)  # fmt: skip
"""Section 3.4: up to 600k iterations of 256, a tenth of the rate when the error plateaus."""

MODERN = Recipe(
    100 * 1_281_167, 256, 0.1, shape="cosine", warmup_images=5 * 1_281_167, weight_decay=5e-5, decay="weights",
    per_pixel_mean=False, augmentation="resized-crop", label_smoothing=0.1, zero_last_gamma=True,
)  # fmt: skip
"""Not the paper's: what the field changed since. Each field that differs from ``IMAGENET`` is one such change."""

QUICK = Recipe(38_400, 64, 0.1, shape="cosine", warmup_images=2_000, weight_decay=5e-4, per_pixel_mean=False)
"""Not the paper's: minutes on a CPU, for sets of a few thousand small images."""

NAMES = ("paper", "modern", "quick")
_WARMED_UP = 18  # section 4.2: with n = 18 (110 layers) 0.1 is slightly too large to start converging


def find_recipe(name: str, arch: str) -> Recipe:
    """A recipe by name, as it is for one network.

    Args:
        name: ``paper`` is section 4.2 for CIFAR's networks and section 3.4 for ImageNet's.
        arch: the network.

    Raises:
        InputError: there is none of this name.
    """
    if name not in NAMES:
        raise InputError(f"no recipe is named {name!r}{did_you_mean(name, NAMES)}; there are {', '.join(NAMES)}")
    small = takes_small_pictures(arch)
    if name == "quick":
        return QUICK if small else replace(QUICK, augmentation="resized-crop")
    if name == "modern":
        return replace(MODERN, images=CIFAR.images, augmentation="pad-crop", warmup_images=0) if small else MODERN
    if not small:
        return IMAGENET
    variant = VARIANTS.get(arch)
    deep = isinstance(variant, ResNetVariant) and variant.depths[0] >= _WARMED_UP
    return replace(CIFAR, error_warmup=0.1) if deep else CIFAR


def takes_small_pictures(arch: str) -> bool:
    """Whether a network is one of section 4.2, made for pictures of 32 x 32."""
    variant = VARIANTS.get(arch)
    return isinstance(variant, ResNetVariant) and variant.small_input
