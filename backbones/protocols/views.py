"""What each protocol looks at. A picture's score is the mean over its views of the softmax of their logits."""

from __future__ import annotations

from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.framing import at_scales, frame_for_classifier, ten_crops
from backbones.images import Picture
from backbones.protocols.names import CENTER, TEN_CROP

SIDES = (224, 256, 384, 480, 640)
"""Shorter sides of multi-scale testing (section 3.4)."""


def views_of(picture: Picture, protocol: str, convention: InputConvention) -> list[Picture]:
    """The views of one picture: [H, W, 3] -> one, ten or five pictures.

    ``center``: the central crop of a resized picture. ``10-crop``: its corners and centre, and their mirror images.
    ``multi-scale``: the whole picture at five sizes, for a network that is applied densely.

    Raises:
        InputError: the network's input leaves no room for the protocol.
    """
    if protocol == CENTER:
        return [frame_for_classifier(picture, convention)]
    crop, shorter = _crop_and_side(protocol, convention)
    return ten_crops(picture, crop, shorter) if protocol == TEN_CROP else at_scales(picture, SIDES)


def check_protocol(protocol: str, convention: InputConvention) -> None:
    """Refuse a protocol that makes no sense for the network.

    Raises:
        InputError: as ``views_of``.
    """
    if protocol != CENTER:
        _crop_and_side(protocol, convention)


def _crop_and_side(protocol: str, convention: InputConvention) -> tuple[int, int]:
    """Side of the crop, and the shorter side that it is cut from: 224 of 256 for the paper's ImageNet networks."""
    if convention.size is None or convention.resize is None or convention.resize <= convention.size[0]:
        seen = "x".join(map(str, convention.size)) if convention.size else "any size"
        raise InputError(
            f"--protocol {protocol} needs a network that is tested on a crop of a larger picture; this one takes "
            f"whole pictures of {seen}: use --protocol center"
        )
    return convention.size[0], convention.resize
