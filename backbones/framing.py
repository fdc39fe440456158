"""Pictures of any size to the input of a classifier. Numpy and pillow only."""

from __future__ import annotations

from collections.abc import Sequence

from backbones.convention import InputConvention
from backbones.images import Picture, center_crop, fit_size, resize


def frame_for_classifier(picture: Picture, convention: InputConvention) -> Picture:
    """Resize the shorter side and crop the centre, as the convention says. [H, W, 3] -> [*convention.size, 3].

    Section 3.4 tests on crops of 224 from a shorter side of 256. Without a stated resize the shorter side becomes
    the crop; without a stated size the picture stays as it is.
    """
    if convention.size is None:
        return picture
    crop = convention.size[0]
    return center_crop(_shorter_side_to(picture, convention.resize or crop), crop)


def ten_crops(picture: Picture, crop: int, shorter: int) -> list[Picture]:
    """Ten squares of a picture whose shorter side is first resized: [H, W, 3] -> ten times [crop, crop, 3].

    The four corners of the whole resized picture (top left, top right, bottom left, bottom right), the centre as
    ``frame_for_classifier`` cuts it, and then the mirror images of the five.
    """
    resized = _shorter_side_to(picture, shorter)
    bottom, right = resized.shape[0] - crop, resized.shape[1] - crop
    corners = [resized[top : top + crop, left : left + crop] for top in (0, bottom) for left in (0, right)]
    five = [*corners, center_crop(resized, crop)]
    return five + [view[:, ::-1] for view in five]


def at_scales(picture: Picture, sides: Sequence[int]) -> list[Picture]:
    """The whole picture, its shorter side resized to each of ``sides``; the aspect ratio is kept."""
    return [_shorter_side_to(picture, side) for side in sides]


def _shorter_side_to(picture: Picture, side: int) -> Picture:
    return resize(picture, fit_size((picture.shape[0], picture.shape[1]), side))
