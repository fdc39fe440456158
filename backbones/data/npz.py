"""``npz:FILE`` or ``npz:DIR``: arrays of pictures of one size, as numpy saves them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.data.arrays import LabelledImages
from backbones.errors import InputError


def read_npz(path: Path, classes: tuple[str, ...] = ()) -> LabelledImages:
    """One file with ``images`` [N, H, W, 3] uint8, ``labels`` [N] and, if it likes, ``classes``.

    Args:
        path: the file.
        classes: names in the order of the labels; by default the file's, or its numbers.

    Raises:
        InputError: the file is missing or damaged, or the arrays are not of this form.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in ("images", "labels", "classes") if name in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a complete .npz of plain arrays; write it with numpy.savez") from error
    if "images" not in content or "labels" not in content:
        raise InputError(f"{path}: must hold the arrays images and labels")
    images, labels = content["images"], content["labels"].astype(np.int64).reshape(-1)
    _check(path, images, labels)
    names = classes or tuple(str(name) for name in content.get("classes", range(int(labels.max()) + 1)))
    if labels.min() < 0 or labels.max() >= len(names):
        raise InputError(f"{path}: labels from {labels.min()} to {labels.max()} for {len(names)} classes")
    return LabelledImages(images, labels, names)


def _check(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InputError(f"{path}: images are {images.dtype} {list(images.shape)}, they must be uint8 [N, H, W, 3]")
    if not len(images) or len(images) != len(labels):
        raise InputError(f"{path}: {len(images)} images and {len(labels)} labels")
