"""Small things that segmentation tests are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backbones.images import Labels, Picture
from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.segmentation.building import build_segmenter
from detection.segmentation.drawing import save_labels
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.segmenter import Segmenter
from detection.segmentation.settings import SegmenterSettings
from detection.settings import InputSettings

CLASSES = ("background", "light", "dark")


def small_segmenter(backbone: str = "resnet20", classes: tuple[str, ...] = CLASSES, **changes: Any) -> Segmenter:
    """A segmenter for pictures of 64 x 64 that trains a step in a fraction of a second."""
    torch.manual_seed(0)
    own: dict[str, Any] = {"channels": 16, "input": InputSettings(64, 128)}
    return build_segmenter(SegmenterSettings(backbone, classes, **{**own, **changes}))


def scene(number: int, size: tuple[int, int] = (64, 64)) -> tuple[Picture, Labels]:
    """Grey noise with a light and a dark rectangle, and its labels."""
    rng = np.random.default_rng(number)
    picture = rng.integers(100, 150, (*size, 3), np.uint8)
    labels = np.zeros(size, np.uint8)
    for label, level in ((1, 220), (2, 20)):
        top, left = (int(rng.integers(0, side // 2)) for side in size)
        height, width = (int(rng.integers(side // 4, side // 2)) for side in size)
        part = (slice(top, top + height), slice(left, left + width))
        picture[part], labels[part] = level, label
    return picture, labels


def data_of(pictures: list[Picture], labels: list[Labels], classes: tuple[str, ...] = CLASSES) -> SegmentationData:
    """In-memory data."""
    builder = AnnotationBuilder(classes[1:])
    for number, picture in enumerate(pictures, start=1):
        builder.add_image(f"{number}.png", number, picture.shape[:2])
    return SegmentationData(DetectionData("made", builder.build(), pictures), labels, classes)


def few_scenes(count: int = 8) -> SegmentationData:
    """Scenes of equal size."""
    pictures, labels = zip(*(scene(number) for number in range(count)), strict=True)
    return data_of(list(pictures), list(labels))


def write_label_folder(root: Path, pairs: dict[str, tuple[Picture, Labels]], names: tuple[str, ...] = ()) -> Path:
    """Pictures and label images in VOC layout; ``names`` go to ``classes.txt``."""
    (root / "JPEGImages").mkdir(parents=True)
    for stem, (picture, labels) in pairs.items():
        Image.fromarray(picture).save(root / "JPEGImages" / f"{stem}.png")
        save_labels(root / "SegmentationClass" / f"{stem}.png", labels)
    if names:
        (root / "classes.txt").write_text("\n".join(names) + "\n")
    return root
