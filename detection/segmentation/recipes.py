"""Training recipes for segmenters. No torch."""

from __future__ import annotations

from typing import Any

REFERENCE_BATCH = 16
"""Learning rates are stated for a batch of so many images."""

_VOC: dict[str, Any] = {
    "backbone": "resnet50_v15",
    "output_stride": 8,
    "channels": 0,
    "auxiliary": True,
    "batch_norm": "trained",
    "batch_size": 16,
    "images": 480_000,
    "learning_rate": 0.01,
    "warmup_images": 0,
    "clip_norm": 0.0,
    "crop": 480,
    "scales": (0.5, 2.0),
    "shorter": 520,
    "longer": 1040,
}

RECIPES: dict[str, dict[str, Any]] = {
    # 30k iterations of 16 images (Chen et al. 2017, section 4.1), with the crops and rate of torchvision's reference.
    "voc": _VOC,
    # Thirty epochs of the 92k pictures that show one of VOC's classes, as torchvision's published weights saw them.
    "coco": {**_VOC, "images": 2_800_000},
    # A few hundred photographs: minutes on a GPU or half an hour on a CPU.
    "quick": {
        **_VOC,
        "output_stride": 16,
        "auxiliary": False,
        "batch_norm": "frozen",
        "batch_size": 4,
        "images": 4_000,
        "warmup_images": 200,
        "clip_norm": 10.0,
        "crop": 256,
        "shorter": 320,
        "longer": 640,
    },
    # The built-in scenes of 128 x 128 pixels, from scratch, in minutes on a CPU.
    "digits": {
        **_VOC,
        "backbone": "resnet20",
        "weights": "none",
        "channels": 64,
        "auxiliary": False,
        "batch_size": 8,
        "images": 8_000,
        "learning_rate": 0.2,
        "warmup_images": 400,
        "clip_norm": 10.0,
        "crop": 96,
        "scales": (0.8, 1.25),
        "shorter": 128,
        "longer": 128,
    },
}
