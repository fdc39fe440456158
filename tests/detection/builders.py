"""Small things that detection tests are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backbones.running.keyed_random import fold
from detection.building import build_detector
from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.detector import Detector
from detection.settings import (
    AnchorSettings,
    InputSettings,
    PoolSettings,
    ProposalSettings,
    SamplingSettings,
    default_settings,
)
from detection.targets import Targets

SIZE = 128


def random_targets(batch: int, slots: int, seed: int, absent: float = 0.4, classes: int = 3) -> Targets:
    """Objects in pictures of 128 x 128; about ``absent`` of the slots are empty, and so is the last picture."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, slots, 2, generator=generator) * 80
    extent = torch.rand(batch, slots, 2, generator=generator) * 40 + 8
    present = torch.rand(batch, slots, generator=generator) >= absent
    if absent:
        present[-1] = False
    return Targets(
        torch.cat((corner, corner + extent), -1),
        torch.randint(0, classes, (batch, slots), generator=generator),
        present,
        torch.zeros(batch, slots, dtype=torch.bool),
        torch.full((batch, 2), SIZE),
        torch.tensor([fold(seed, image) for image in range(batch)]),
    )


def small_detector(head: str = "fpn", classes: tuple[str, ...] = ("a", "b", "c"), **changes: Any) -> Detector:
    """A detector for pictures of 128 x 128 that trains a step in a fraction of a second."""
    torch.manual_seed(0)
    own: dict[str, Any] = {
        "input": InputSettings(SIZE, SIZE),
        "anchors": AnchorSettings(((16,), (32,), (64,)) if head == "fpn" else ((16, 32, 64),)),
        "pool": PoolSettings(size=6 if head == "c4" else 5, kind="pool" if head == "vgg" else "align"),
        "train_proposals": ProposalSettings(100, 40),
        "test_proposals": ProposalSettings(100, 30),
        "roi_sampling": SamplingSettings(16, 0.25, 0.5, 0.5),
        "channels": 16,
        "vector": 32,
        "frozen_norm": False,
    }
    backbone = {"fpn": "resnet20", "c4": "resnet18", "vgg": "vgg16"}[head]
    return build_detector(default_settings(backbone, classes, head, **own | changes))


def write_voc_folder(root: Path, pictures: dict[str, list[tuple[str, tuple[float, ...]]]], size: int = 64) -> Path:
    """Pictures of noise with objects: {"stem": [(class, (xmin, ymin, xmax, ymax)), ...]}, in VOC layout."""
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, (stem, objects) in enumerate(pictures.items()):
        pixels = np.random.default_rng(number).integers(0, 255, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{stem}.png")
        items = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for name, (x1, y1, x2, y2) in objects
        )
        text = f"<annotation><size><width>{size}</width><height>{size}</height></size>{items}</annotation>"
        (root / "Annotations" / f"{stem}.xml").write_text(text)
    return root


def data_of(pictures: list[np.ndarray], objects: list[list[tuple[tuple[float, ...], int]]]) -> DetectionData:
    """In-memory data with classes a, b, c."""
    builder = AnnotationBuilder(("a", "b", "c"))
    for number, (picture, found) in enumerate(zip(pictures, objects, strict=True), start=1):
        for box, label in found:
            builder.add_object(box, label)
        builder.add_image(f"{number}.png", number, picture.shape[:2])
    return DetectionData("made", builder.build(), pictures)
