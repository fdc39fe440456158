"""The heads: which networks each fits, which flags it has, its settings by recipe. No torch.

Another head is a row here and a class in ``detection.heads``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from backbones.errors import InputError
from backbones.variants import VARIANTS, VGGVariant
from detection.settings import (
    AnchorSettings,
    InputSettings,
    MaskSettings,
    OutputSettings,
    PoolSettings,
    ProposalSettings,
    SamplingSettings,
)


@dataclass(frozen=True)
class HeadRecipe:
    """What a recipe is for one head.

    Attributes:
        backbone: the network.
        settings: fields that differ from the head's own; ``masks`` is the branch that ``--masks`` adds.
        on_coco: more of them, where the paper's numbers for COCO differ from those for VOC.
        learning_rate: where it is not the recipe's.
    """

    backbone: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    on_coco: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None


@dataclass(frozen=True)
class Head:
    """A row of ``HEADS``.

    Attributes:
        about: for ``--help``.
        flags: of ``detection/train.py`` that this head has and not every head.
        recipes: by name.
        maker: ``module:class``, called with a backbone and the settings.
        settings: fields that differ from the defaults, as today's model zoos train it.
        vgg: whether it fits VGG's networks, or all others; None: every network.
        pyramid: each anchor size has a level of its own.
        task: ``detection``, or ``segmentation``, whose settings are ``SegmenterSettings``.
        recipe: the default, on other data than the built-in digits.
        metrics: what weights can be chosen by; the first is the default.
    """

    about: str
    flags: tuple[str, ...]
    recipes: Mapping[str, HeadRecipe]
    maker: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    vgg: bool | None = False
    pyramid: bool = False
    task: Literal["detection", "segmentation"] = "detection"
    recipe: str = "paper"
    metrics: tuple[str, ...] = (
        "AP", "AP50", "AP75", "VOC_mAP", "VOC07_mAP", "mask_AP", "mask_AP50", "mask_AP75", "last",
    )  # fmt: skip


def _proposals(train: tuple[int, int], test: tuple[int, int]) -> dict[str, ProposalSettings]:
    return {"train_proposals": ProposalSettings(*train), "test_proposals": ProposalSettings(*test)}


def _regions(count: int, floor: float = 0.0) -> SamplingSettings:
    return SamplingSettings(count, 0.25, 0.5, 0.5, negative_floor=floor)


_OF_REGIONS = (
    "learn_ignored", "context", "pool", "anchor_sizes", "region_samples", "train_proposals", "test_proposals",
    "accumulate", "milestones", "eval_backend",
)  # fmt: skip
_ONE_LEVEL = AnchorSettings(((32, 64, 128, 256, 512),))
# Section 4.3 and appendix A; VOC's negatives overlap an object by 0.1 at least, as in Fast R-CNN.
_PAPER: dict[str, Any] = {
    "input": InputSettings(600, 1000), "anchors": AnchorSettings(((128, 256, 512),)),
    **_proposals((12_000, 2000), (6000, 300)), "roi_sampling": _regions(128, 0.1),
    "output": OutputSettings(nms_threshold=0.3), "roi_beta": 1.0,
}  # fmt: skip
_PAPER_ON_COCO = {"anchors": AnchorSettings(((64, 128, 256, 512),)), "roi_sampling": _regions(128)}
_QUICK: dict[str, Any] = {
    "input": InputSettings(320, 640), "channels": 128, **_proposals((3000, 500), (1800, 300)),
    "roi_sampling": _regions(64),
}  # fmt: skip
_DIGITS: dict[str, Any] = {
    "input": InputSettings(128, 128), "anchors": AnchorSettings(((16, 32, 64),)), "channels": 64, "vector": 256,
    **_proposals((400, 200), (200, 100)), "roi_sampling": _regions(64), "dropout": 0.0,
}  # fmt: skip
_VGG_ZOO: dict[str, Any] = {
    "anchors": _ONE_LEVEL, "pool": PoolSettings(), "test_proposals": ProposalSettings(6000, 1000)
}  # fmt: skip
# After conv5_x one deconvolution is enough (He et al. 2017, figure 4).
_AFTER_CONV5 = MaskSettings(convs=0)

HEADS: dict[str, Head] = {
    "fpn": Head(
        "a feature pyramid",
        (*_OF_REGIONS, "masks", "channels", "vector"),
        {
            **dict.fromkeys(("1x", "2x", "3x"), HeadRecipe("resnet50_v15", {"masks": MaskSettings()})),
            "quick": HeadRecipe("resnet50_v15", {
                **_QUICK, "vector": 512, **_proposals((1000, 500), (600, 300)), "roi_sampling": _regions(128),
                "masks": MaskSettings(channels=128),
            }),
            "digits": HeadRecipe("resnet20", {
                **_DIGITS, "anchors": AnchorSettings(((16,), (32,), (64,))),
                "masks": MaskSettings(convs=2, channels=64),
            }),
        },
        "detection.heads.fpn:FPNHead",
        pyramid=True,
    ),
    "c4": Head(
        "conv5 for each region, as in the paper",
        (*_OF_REGIONS, "masks"),
        {
            "paper": HeadRecipe(
                "resnet101", {**_PAPER, "pool": PoolSettings(14, kind="pool"), "masks": _AFTER_CONV5}, _PAPER_ON_COCO
            ),
            **dict.fromkeys(("1x", "2x", "3x"), HeadRecipe("resnet50_v15", {"masks": _AFTER_CONV5})),
            "quick": HeadRecipe("resnet50_v15", {**_QUICK, "masks": MaskSettings(convs=0, channels=128)}),
            "digits": HeadRecipe("resnet20", {**_DIGITS, "masks": MaskSettings(convs=0, channels=64)}),
        },
        "detection.heads.c4:C4Head",
        {"anchors": _ONE_LEVEL, "pool": PoolSettings(14), **_proposals((12_000, 2000), (6000, 1000))},
    ),
    "vgg": Head(
        "fc6 and fc7 for each region",
        (*_OF_REGIONS, "vector", "dropout"),
        {
            "paper": HeadRecipe("vgg16", _PAPER, _PAPER_ON_COCO),
            **dict.fromkeys(("1x", "2x", "3x"), HeadRecipe("vgg16", _VGG_ZOO)),
            "quick": HeadRecipe("vgg16", {**_VGG_ZOO, **_QUICK}),  # fc6 and fc7 as wide as those of the weights
            "digits": HeadRecipe("vgg16", {**_VGG_ZOO, **_DIGITS}, learning_rate=0.02),
        },
        "detection.heads.vgg:VGGHead",
        {"anchors": AnchorSettings(((128, 256, 512),)), "pool": PoolSettings(kind="pool"), "vector": 4096,
         **_proposals((12_000, 2000), (6000, 300))},
        vgg=True,
    ),
    "fcn": Head(
        "a class for every pixel",
        ("output_stride", "channels", "auxiliary", "crop", "scales"),
        {
            **dict.fromkeys(("voc", "coco"), HeadRecipe("resnet50_v15", {"auxiliary": True})),
            "quick": HeadRecipe("resnet50_v15", {"output_stride": 16, "input": InputSettings(320, 640)}),
            "digits": HeadRecipe("resnet20", {"channels": 64, "input": InputSettings(128, 128)}),
        },
        vgg=None,
        task="segmentation",
        recipe="voc",
        metrics=("mIoU", "pixel_accuracy", "last"),
    ),
}  # fmt: skip


def fits(head: str, backbone: str) -> bool:
    """Whether a head can be made on a network, by their names."""
    return HEADS[head].vgg in (None, isinstance(VARIANTS.get(backbone), VGGVariant))


def check_fit(head: str, backbone: str) -> None:
    """Refuse a head and a network that do not go together.

    Raises:
        InputError: it names those that do.
    """
    if not fits(head, backbone):
        others = sorted(name for name, row in HEADS.items() if row.task == HEADS[head].task and fits(name, backbone))
        raise InputError(f"--head {head} does not fit {backbone}; use --head {' or '.join(others)}")
