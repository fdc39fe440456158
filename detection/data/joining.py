"""Several parts as one data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detection.data.annotations import Annotations, DetectionData, Objects, PictureFiles
from detection.masks.encoded import EncodedMasks


def join(parts: Sequence[DetectionData]) -> DetectionData:
    """The images of all parts, one part after the other, named from the folder that holds them all.

    Image ids count from 1, since those of the parts may be the same.

    Args:
        parts: of files, with the same classes; all with masks or all without.
    """
    files = [part.pictures for part in parts if isinstance(part.pictures, PictureFiles)]
    assert len(files) == len(parts), "parts are joined by the paths of their files"
    assert len({part.annotations.classes for part in parts}) == 1
    root = Path(os.path.commonpath([pictures.root.resolve() for pictures in files]))
    folders = [pictures.root.resolve().relative_to(root) for pictures in files]
    all_of = [part.annotations for part in parts]
    names = [
        (folder / str(name)).as_posix()
        for folder, annotations in zip(folders, all_of, strict=True)
        for name in annotations.names
    ]
    joined = Annotations(
        np.array(names, np.str_),
        np.arange(1, len(names) + 1),
        np.concatenate([annotations.sizes for annotations in all_of]),
        np.concatenate(([0], np.cumsum(np.concatenate([np.diff(annotations.first) for annotations in all_of])))),
        _join_objects([annotations.objects for annotations in all_of]),
        all_of[0].classes,
        all_of[0].category_ids,
    )
    return DetectionData("+".join(part.name for part in parts), joined, PictureFiles(root, joined))


def _join_objects(parts: Sequence[Objects]) -> Objects:
    masks = [part.masks for part in parts if part.masks is not None]
    return Objects(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ignored for part in parts]),
        np.concatenate([part.areas for part in parts]),
        _join_masks(masks) if len(masks) == len(parts) else None,
    )


def _join_masks(parts: Sequence[EncodedMasks]) -> EncodedMasks:
    lengths = np.concatenate([np.diff(part.first) for part in parts])
    return EncodedMasks(np.concatenate([part.text for part in parts]), np.concatenate(([0], np.cumsum(lengths))))
