"""An object's mask as a grid over its own box: the same shape for every object, whatever the picture's size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backbones.images import Size
from detection.data.annotations import Objects

CELLS = 56
"""Twice the resolution that the mask branch learns."""


def object_grids(objects: Objects, size: Size) -> NDArray[np.uint8]:
    """Coverage of the cells of each object's box, 0 to 255. [n, CELLS, CELLS].

    Args:
        objects: of one picture, with masks.
        size: (height, width) of the picture.
    """
    assert objects.masks is not None
    grids = np.zeros((len(objects.labels), CELLS, CELLS), np.uint8)
    for number, box in enumerate(objects.boxes):
        mask = objects.masks.dense(number, size).view(np.uint8) * np.uint8(255)
        shrunk = Image.fromarray(mask).resize((CELLS, CELLS), Image.Resampling.BOX, box=tuple(box.tolist()))
        grids[number] = np.asarray(shrunk)
    return grids
