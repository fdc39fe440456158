"""Networks as the paper's figures call them. No torch."""

from __future__ import annotations

import re

from backbones.variants import VARIANTS, ResNetVariant

_KINDS = {"resnet": "ResNet", "plain": "plain", "vgg": "VGG"}


def display_name(arch: str) -> str:
    """``resnet34_a`` -> ``ResNet-34 A``, ``plain20`` -> ``plain-20``; names of other packages stay."""
    parts = re.fullmatch(r"(resnet|plain|vgg)(\d+)(?:_(\w+))?", arch)
    if parts is None:
        return arch
    kind, layers, suffix = parts.groups()
    ending = {None: "", "v15": " v1.5"}.get(suffix, f" {str(suffix).upper()}")
    return f"{_KINDS[kind]}-{layers}{ending}"


def layers_in(arch: str) -> int:
    """The number in a network's name; 0 where there is none."""
    digits = re.search(r"\d+", arch)
    return int(digits[0]) if digits else 0


def is_plain(arch: str) -> bool:
    """Whether a network has no shortcuts."""
    variant = VARIANTS.get(arch)
    return isinstance(variant, ResNetVariant) and variant.block == "plain"
