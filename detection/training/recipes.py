"""Recipes for detectors: the paper's (section 4 and appendix A), today's model zoos', and small ones. No torch.

A recipe is a detector and a schedule. Each head has its own numbers, and the paper's differ between VOC and COCO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from backbones.errors import InputError, did_you_mean
from detection.settings import (
    AnchorSettings,
    DetectorSettings,
    InputSettings,
    MaskSettings,
    PoolSettings,
    ProposalSettings,
    SamplingSettings,
    default_settings,
)

REFERENCE_BATCH = 16
"""Learning rates are stated for a batch of so many images."""


@dataclass(frozen=True)
class Recipe:
    """What is not given otherwise.

    Attributes:
        detector: everything but the backbone and the classes.
        masks: the mask branch, where masks are wanted.
        backbone: the network.
        batch_size: images of a step.
        images: length of the run in images seen.
        learning_rate: for a batch of 16.
        milestones: parts of the run after which the learning rate falls to a tenth.
        shorter: shorter sides to draw from in training; ``detector.input`` has that of testing, and the longest.
        warmup_images: over which the learning rate climbs.
        weight_decay: on every parameter.
        clip_norm: limit on the norm of the gradient; 0 for none.
        weights: where the backbone starts; None for the best published ones.
        batch_norm: ``frozen`` or ``trained``; None is frozen with weights and trained without.
    """

    detector: DetectorSettings
    masks: MaskSettings
    backbone: str
    batch_size: int
    images: int
    learning_rate: float
    milestones: tuple[float, ...]
    shorter: tuple[int, ...]
    warmup_images: int = 0
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    weights: str | None = None
    batch_norm: str | None = None


def find_recipe(name: str, head: str | None = None, coco: bool = False) -> Recipe:
    """A recipe by name.

    Args:
        name: one of ``RECIPES``.
        head: ``c4``, ``fpn`` or ``vgg``; by default the recipe's own.
        coco: whether the data is COCO's, where the paper's numbers differ from those for VOC.

    Raises:
        InputError: there is none of this name, or it is not for this head.
    """
    if name not in RECIPES:
        raise InputError(f"no recipe is named {name!r}{did_you_mean(name, RECIPES)}; there are {', '.join(RECIPES)}")
    return RECIPES[name](head, coco)


def _paper(head: str | None, coco: bool) -> Recipe:
    """Faster R-CNN as the paper trains it, but jointly and not in alternation (``docs/deviations.md``).

    COCO: 240k iterations of 16 images at 0.001, then 80k at 0.0001. VOC: as in Faster R-CNN, 60k iterations at 0.001
    and 20k at 0.0001, here with Fast R-CNN's two images.
    """
    head = head or "c4"
    if head == "fpn":
        raise InputError("--recipe paper: feature pyramids came after the paper; use --head c4, or --recipe 1x")
    base = default_settings("", (), head)
    floor = 0.0 if coco else 0.1
    detector = replace(
        base,
        input=InputSettings(600, 1000),
        anchors=AnchorSettings(((64, 128, 256, 512) if coco else (128, 256, 512),)),
        pool=replace(base.pool, kind="pool"),
        train_proposals=ProposalSettings(12_000, 2000, 0.7),
        test_proposals=ProposalSettings(6000, 300, 0.7),
        roi_sampling=SamplingSettings(128, 0.25, 0.5, 0.5, negative_floor=floor),
        output=replace(base.output, nms_threshold=0.3),
        roi_beta=1.0,
    )
    images, batch, rate = (320_000 * 16, 16, 0.001) if coco else (80_000 * 2, 2, 0.001 * REFERENCE_BATCH / 2)
    return Recipe(
        detector, _masks(head), "vgg16" if head == "vgg" else "resnet101", batch, images, rate, (0.75,), (600,),
        weight_decay=5e-4,
    )  # fmt: skip


def _zoo(images: int, milestones: tuple[float, ...]) -> Callable[[str | None, bool], Recipe]:
    """COCO as today's model zoos train it: jitter, RoIAlign, 512 regions; a single level from 12,000 boxes."""

    def recipe(head: str | None, coco: bool) -> Recipe:
        head = head or "fpn"
        detector = default_settings("", (), head)
        if head == "vgg":
            detector = replace(
                detector,
                anchors=AnchorSettings(((32, 64, 128, 256, 512),)),
                pool=PoolSettings(),
                test_proposals=ProposalSettings(6000, 1000),
            )
        return Recipe(
            detector, _masks(head), "vgg16" if head == "vgg" else "resnet50_v15", 16, images, 0.02, milestones,
            (640, 672, 704, 736, 768, 800), warmup_images=16_000,
        )  # fmt: skip

    return recipe


def _quick(head: str | None, coco: bool) -> Recipe:
    """A few hundred photographs: a few minutes on a GPU or half an hour on a CPU."""
    zoo = RECIPES["1x"](head, coco)
    single = zoo.detector.head != "fpn"
    detector = replace(
        zoo.detector,
        input=InputSettings(320, 640),
        channels=128,
        vector=zoo.detector.vector if single else 512,  # fc6 and fc7 come with VGG's weights
        train_proposals=ProposalSettings(3000 if single else 1000, 500),
        test_proposals=ProposalSettings(1800 if single else 600, 300),
        roi_sampling=replace(zoo.detector.roi_sampling, count=64 if single else 128),
    )
    return replace(
        zoo, detector=detector, batch_size=4, images=1600, milestones=(0.7, 0.9), warmup_images=200,
        shorter=(288, 320, 352), clip_norm=10.0, masks=replace(zoo.masks, channels=128),
    )  # fmt: skip


def _digits(head: str | None, coco: bool) -> Recipe:
    """The built-in scenes of 128 x 128 pixels, from scratch, in minutes on a CPU."""
    zoo = RECIPES["1x"](head, coco)
    sizes = (16, 32, 64)
    single = zoo.detector.head != "fpn"
    detector = replace(
        zoo.detector,
        input=InputSettings(128, 128),
        anchors=AnchorSettings((sizes,) if single else tuple((size,) for size in sizes)),
        channels=64,
        vector=256,
        train_proposals=ProposalSettings(400, 200),
        test_proposals=ProposalSettings(200, 100),
        roi_sampling=replace(zoo.detector.roi_sampling, count=64),
        dropout=0.0,
    )
    vgg = zoo.detector.head == "vgg"
    return replace(
        zoo, detector=detector, backbone="vgg16" if vgg else "resnet20", batch_size=8, images=4800,
        learning_rate=0.02 if vgg else 0.06, milestones=(0.8, 0.95), warmup_images=400, shorter=(128,),
        clip_norm=10.0, weights="none", batch_norm="trained",
        masks=replace(zoo.masks, channels=64, convs=min(2, zoo.masks.convs)),
    )  # fmt: skip


def _masks(head: str) -> MaskSettings:
    """Mask R-CNN's branch; after conv5_x one deconvolution is enough (He et al. 2017, figure 4)."""
    return MaskSettings(convs=0) if head == "c4" else MaskSettings()


RECIPES: dict[str, Callable[[str | None, bool], Recipe]] = {
    "paper": _paper,
    "1x": _zoo(90_000 * 16, (2 / 3, 8 / 9)),
    "2x": _zoo(180_000 * 16, (2 / 3, 8 / 9)),
    "3x": _zoo(270_000 * 16, (7 / 9, 25 / 27)),
    "quick": _quick,
    "digits": _digits,
}
