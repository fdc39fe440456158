"""Recipes: the paper's (section 4 and appendix A), today's model zoos', and small ones. No torch.

A recipe is a model and a schedule. The model's settings by recipe stand in ``head_table``, the schedules here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backbones.errors import InputError, did_you_mean
from backbones.running.learning_rate import RecipeSchedule
from detection.head_table import HEADS, fits
from detection.segmentation.settings import SegmenterSettings
from detection.settings import DetectorSettings, default_settings

REFERENCE_BATCH = 16
"""Learning rates are stated for a batch of so many images."""
Settings = DetectorSettings | SegmenterSettings


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeSchedule):
    """What is not given otherwise.

    Attributes:
        head: of ``HEADS``.
        settings: the model, without backbone and classes; ``masks`` is the branch that ``--masks`` adds.
        backbone: the network.
        learning_rate: for a batch of 16.
        shorter: shorter sides to draw from in training; ``settings.input`` has that of testing, and the longest.
        weight_decay: on every parameter.
        clip_norm: limit on the norm of the gradient; 0 for none.
        weights: where the backbone starts; None for the best published ones.
        batch_norm: ``frozen`` or ``trained``; None is frozen with weights and trained without.
        freeze: stages that learn nothing; None is 2 with weights and 0 without.
        crop: side of the squares that a segmenter is trained on.
        scales: the least and the largest scale of a segmenter's pictures.
    """

    head: str
    settings: Settings
    backbone: str
    shorter: tuple[int, ...]
    clip_norm: float = 0.0
    weights: str | None = None
    batch_norm: str | None = None
    freeze: int | None = None
    crop: int | None = None
    scales: tuple[float, float] | None = None


_ZOO: dict[str, Any] = {
    "batch_size": 16, "learning_rate": 0.02, "shorter": (640, 672, 704, 736, 768, 800), "warmup_images": 16_000
}  # fmt: skip
# As Faster R-CNN, but jointly and not in alternation (docs/deviations.md). COCO: 240k iterations of 16 images at 0.001,
# then 80k at 0.0001. VOC: 60k iterations at 0.001 and 20k at 0.0001, with Fast R-CNN's two images.
_PAPER: dict[str, Any] = {"milestones": (0.75,), "shorter": (600,), "weight_decay": 5e-4}
_PAPER_ON_COCO = {**_PAPER, "batch_size": 16, "images": 320_000 * 16, "learning_rate": 0.001}
_VOC: dict[str, Any] = {
    "batch_size": 16, "images": 480_000, "learning_rate": 0.01, "shorter": (520,), "shape": "cosine",
    "batch_norm": "trained", "freeze": 0, "crop": 480, "scales": (0.5, 2.0),
}  # fmt: skip

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "detection": {
        "paper": {**_PAPER, "batch_size": 2, "images": 80_000 * 2, "learning_rate": 0.001 * REFERENCE_BATCH / 2},
        # COCO as today's model zoos train it: jitter, RoIAlign, 512 regions; a single level from 12,000 boxes.
        "1x": {**_ZOO, "images": 90_000 * 16, "milestones": (2 / 3, 8 / 9)},
        "2x": {**_ZOO, "images": 180_000 * 16, "milestones": (2 / 3, 8 / 9)},
        "3x": {**_ZOO, "images": 270_000 * 16, "milestones": (7 / 9, 25 / 27)},
        # A few hundred photographs: a few minutes on a GPU or half an hour on a CPU.
        "quick": {
            **_ZOO, "batch_size": 4, "images": 1600, "milestones": (0.7, 0.9), "warmup_images": 200,
            "shorter": (288, 320, 352), "clip_norm": 10.0,
        },
        # The built-in scenes of 128 x 128 pixels, from scratch, in minutes on a CPU.
        "digits": {
            "batch_size": 8, "images": 4800, "learning_rate": 0.06, "milestones": (0.8, 0.95), "warmup_images": 400,
            "shorter": (128,), "clip_norm": 10.0, "weights": "none", "batch_norm": "trained",
        },
    },
    "segmentation": {
        # 30k iterations of 16 (Chen et al. 2017, section 4.1), with the crops and rate of torchvision's reference.
        "voc": _VOC,
        # Thirty epochs of the 92k pictures that show one of VOC's classes, as torchvision's weights saw them.
        "coco": {**_VOC, "images": 2_800_000},
        "quick": {
            **_VOC, "batch_norm": "frozen", "batch_size": 4, "images": 4_000, "warmup_images": 200, "clip_norm": 10.0,
            "crop": 256, "shorter": (320,),
        },
        "digits": {
            **_VOC, "weights": "none", "batch_size": 8, "images": 8_000, "learning_rate": 0.2, "warmup_images": 400,
            "clip_norm": 10.0, "crop": 96, "scales": (0.8, 1.25), "shorter": (128,),
        },
    },
}  # fmt: skip
NAMES = tuple(dict.fromkeys(name for recipes in RECIPES.values() for name in recipes))


def find_recipe(name: str, head: str | None = None, coco: bool = False, backbone: str | None = None) -> Recipe:
    """A recipe by name.

    Args:
        name: one of ``NAMES``.
        head: one of ``HEADS``; by default the first that has the recipe and fits the backbone.
        coco: whether the data is COCO's, where the paper's numbers differ from those for VOC.
        backbone: the network, if one is given.

    Raises:
        InputError: there is none of this name, or it is not for this head.
    """
    if name not in NAMES:
        raise InputError(f"no recipe is named {name!r}{did_you_mean(name, NAMES)}; there are {', '.join(NAMES)}")
    having = [known for known, row in HEADS.items() if name in row.recipes]
    if head is None:
        head = next((known for known in having if backbone is None or fits(known, backbone)), having[0])
    row = HEADS[head]
    if name not in row.recipes:
        raise InputError(
            f"--recipe {name} is not for --head {head}; use --head {' or '.join(having)}, or --recipe "
            f"{', '.join(row.recipes)}"
        )
    own = row.recipes[name]
    changes = {**own.settings, **(own.on_coco if coco else {})}
    schedule = _PAPER_ON_COCO if coco and own.on_coco else RECIPES[row.task][name]
    if own.learning_rate is not None:
        schedule = {**schedule, "learning_rate": own.learning_rate}
    if row.task == "segmentation":
        return Recipe(head=head, settings=SegmenterSettings("", (), **changes), backbone=own.backbone, **schedule)
    return Recipe(head=head, settings=default_settings("", (), head, **changes), backbone=own.backbone, **schedule)
