"""Pictures of any size to the input of a classifier. Numpy and pillow only."""

from __future__ import annotations

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
    size = fit_size((picture.shape[0], picture.shape[1]), convention.resize or crop)
    return center_crop(resize(picture, size), crop)
