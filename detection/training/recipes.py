"""Named settings for all that is not given. No torch."""

from __future__ import annotations

from typing import Any

_ZOO: dict[str, Any] = {
    "head": "fpn",
    "batch_size": 16,
    "learning_rate": 0.02,
    "warmup_images": 16_000,
    "shorter": (640, 672, 704, 736, 768, 800),
    "test_shorter": 800,
    "longer": 1333,
    "anchor_sizes": (32, 64, 128, 256, 512),
    "channels": 256,
    "vector": 1024,
    "region_samples": 512,
    "train_proposals": 1000,
    "test_proposals": 1000,
    "clip_norm": 0.0,
}

RECIPES: dict[str, dict[str, Any]] = {
    # The schedules of today's model zoos on COCO: 90k, 180k or 270k iterations of 16 images.
    "1x": {**_ZOO, "images": 1_440_000, "milestones": (2 / 3, 8 / 9)},
    "2x": {**_ZOO, "images": 2_880_000, "milestones": (2 / 3, 8 / 9)},
    "3x": {**_ZOO, "images": 4_320_000, "milestones": (7 / 9, 25 / 27)},
    # A few hundred photographs, a few minutes on a GPU or half an hour on a CPU.
    "quick": {
        **_ZOO,
        "batch_size": 4,
        "images": 1_600,
        "milestones": (0.7, 0.9),
        "warmup_images": 200,
        "shorter": (288, 320, 352),
        "test_shorter": 320,
        "longer": 640,
        "channels": 128,
        "vector": 512,
        "region_samples": 128,
        "train_proposals": 500,
        "test_proposals": 300,
        "clip_norm": 10.0,
    },
    # The built-in scenes of 128 x 128 pixels.
    "digits": {
        **_ZOO,
        "batch_size": 8,
        "images": 4_800,
        "learning_rate": 0.06,
        "milestones": (0.8, 0.95),
        "warmup_images": 400,
        "shorter": (128,),
        "test_shorter": 128,
        "longer": 128,
        "anchor_sizes": (16, 32, 64),
        "channels": 64,
        "vector": 256,
        "region_samples": 64,
        "train_proposals": 200,
        "test_proposals": 100,
        "clip_norm": 10.0,
        "batch_norm": "trained",
    },
}
