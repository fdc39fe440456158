"""``build_backbone``: from a name to a network."""

from __future__ import annotations

from backbones.contract import Backbone
from backbones.resnet import ResNet
from backbones.variants import ResNetVariant, VGGVariant, find_variant
from backbones.vgg import VGG


def build_backbone(name: str, num_classes: int = 1000) -> Backbone:
    """A freshly initialized network.

    Args:
        name: one of ``list_backbones()``.
        num_classes: size of the classifier; 0 leaves it out.

    Raises:
        InputError: nobody offers a network of this name.
    """
    variant = find_variant(name)
    if isinstance(variant, ResNetVariant):
        return ResNet(variant, num_classes)
    if isinstance(variant, VGGVariant):
        return VGG(variant, num_classes)
    return variant(num_classes=num_classes)
