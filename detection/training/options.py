"""The options of ``detection/train.py``, for every head. No torch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from backbones.errors import InputError, did_you_mean
from backbones.running.command_line import flag_of, option
from backbones.running.run_options import (
    RECIPE,
    Resolved,
    RunOptions,
    as_facts,
    default_folder,
    require_below_one,
    require_not_negative,
    require_positive,
    with_length,
)
from backbones.variants import list_backbones
from detection.data.names import HELP, default_splits
from detection.head_table import HEADS, check_fit
from detection.settings import DetectorSettings
from detection.training.recipes import NAMES, Recipe, Settings, find_recipe

logger = logging.getLogger("shortcut")
_OF_HEADS = tuple(dict.fromkeys(flag for row in HEADS.values() for flag in row.flags))
"""Flags that only some heads have."""
_FIELDS = {
    "test_shorter": ("input", "shorter"), "longer": ("input", "longer"), "pool": ("pool", "kind"),
    "anchor_sizes": ("anchors", "sizes"), "region_samples": ("roi_sampling", "count"),
    "train_proposals": ("train_proposals", "after_nms"), "test_proposals": ("test_proposals", "after_nms"),
    "channels": ("", "channels"), "vector": ("", "vector"), "dropout": ("", "dropout"),
    "output_stride": ("", "output_stride"), "auxiliary": ("", "auxiliary"),
}  # fmt: skip
"""The field of the model's settings, or of a part of them, that a flag changes."""
_OF_SCHEDULES = ("batch_size", "images", "learning_rate", "milestones", "shorter", "warmup_images", "weight_decay",
                 "clip_norm", "crop", "scales")  # fmt: skip
"""Flags that stand before a field of the recipe."""


def _having(flag: str) -> list[str]:
    return [head for head, row in HEADS.items() if flag in row.flags or flag not in _OF_HEADS]


def _for(flag: str, text: str) -> str:
    return f"{', '.join(_having(flag))}: {text}"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(RunOptions):
    """Everything that decides a training run. ``None`` means: as the recipe says."""

    dataset: str = option(
        "digits", f"{HELP}; for fcn the label images of VOC, else classes painted from masks", group="data"
    )
    split: str | None = option(None, "what to train on", group="data", otherwise="train")
    val_split: str | None = option(
        None, "what to choose the best weights by; none keeps the last", group="data", otherwise="val"
    )
    learn_ignored: bool = option(False, "train on crowds and difficult objects too", group="data")

    head: str | None = option(
        None, "; ".join(f"{head}: {row.about}" for head, row in HEADS.items()), group="model", choices=tuple(HEADS),
        otherwise=RECIPE,
    )  # fmt: skip
    backbone: str | None = option(None, "the network", group="model", choices=list_backbones, otherwise=RECIPE)
    weights: str | None = option(
        None, "pretrained weights: a run folder, a file (.safetensors, .pth, .pkl, .xz), torchvision://NAME, "
        "msra://NAME, or none; a detector is taken whole, as by --init-from", group="model",
        otherwise="the published ones; digits: none",
    )  # fmt: skip
    init_from: str | None = option(
        None, "a detector to start from (a run folder, a file, torchvision://NAME or detectron2://NAME), with fcn a "
        "segmenter: its design, and all that fits of its weights, classes by their names",
        group="model", metavar="MODEL",
    )  # fmt: skip
    freeze: int | None = option(
        None, "stages that learn nothing (2: conv1 and conv2_x)", group="model",
        otherwise="2 if pretrained, else 0; fcn: 0",
    )  # fmt: skip
    batch_norm: str | None = option(
        None, "statistics of the backbone fixed or trained along", group="model", choices=("frozen", "trained"),
        otherwise="frozen if pretrained; fcn: the recipe's",
    )  # fmt: skip
    masks: bool = option(
        False, _for("masks", "a mask for each object (Mask R-CNN); the data must have masks"), group="model"
    )
    context: bool = option(False, "global context: the whole image beside each region (appendix B)", group="model")
    pool: str | None = option(
        None, "RoIAlign, or the paper's RoI pooling", group="model", choices=("align", "pool"), otherwise=RECIPE
    )
    anchor_sizes: tuple[int, ...] | None = option(
        None, "in pixels; with fpn one for each level, the finest first", group="model", otherwise=RECIPE
    )
    channels: int | None = option(
        None, _for("channels", "width of the pyramid; of fcn's head, 0 for a quarter of the last map"), group="model",
        otherwise=RECIPE,
    )  # fmt: skip
    vector: int | None = option(None, _for("vector", "width of the linear layers"), group="model", otherwise=RECIPE)
    dropout: float | None = option(None, _for("dropout", "behind each linear layer"), group="model", otherwise=RECIPE)
    output_stride: int | None = option(
        None, _for("output_stride", "of the last map, by dilation: 16, or 8, which is finer and slower"),
        group="model", otherwise=RECIPE,
    )  # fmt: skip
    auxiliary: bool | None = option(
        None, _for("auxiliary", "train with a second head, on the map before the last"), group="model",
        otherwise=RECIPE,
    )  # fmt: skip
    region_samples: int | None = option(
        None, "regions of each image that the second stage learns from", group="model", otherwise=RECIPE
    )
    train_proposals: int | None = option(None, "proposals of each image in training", group="model", otherwise=RECIPE)
    test_proposals: int | None = option(None, "proposals of each image in testing", group="model", otherwise=RECIPE)

    recipe: str | None = option(
        None, "named settings for all that is not given", group="recipe", choices=NAMES,
        otherwise="paper; fcn: voc; digits for digits",
    )  # fmt: skip
    accumulate: int = option(1, "parts in which a batch is computed, one after the other, to save memory",
                             group="recipe")  # fmt: skip
    images: int | None = option(None, "images seen in the whole run", group="recipe", otherwise=RECIPE)
    learning_rate: float | None = option(
        None, "for a batch of 16; scaled linearly to the real batch", group="recipe", otherwise=RECIPE
    )
    milestones: tuple[float, ...] | None = option(
        None, "parts of the run after which the learning rate falls to a tenth; fcn's falls as a cosine",
        group="recipe", otherwise=RECIPE,
    )  # fmt: skip
    warmup_images: int | None = option(
        None, "images over which the learning rate climbs", group="recipe", otherwise=RECIPE
    )
    weight_decay: float | None = option(None, "on every parameter", group="recipe", otherwise=RECIPE)
    clip_norm: float | None = option(
        None, "limit on the norm of the gradient; 0 for none", group="recipe", otherwise=RECIPE
    )
    ema: float = option(
        0.0, "decay of a moving average of the weights, such as 0.999, which is evaluated and kept; 0 for none",
        group="recipe",
    )  # fmt: skip
    shorter: tuple[int, ...] | None = option(
        None, "shorter sides to draw from in training", group="recipe", otherwise=RECIPE
    )
    test_shorter: int | None = option(None, "shorter side in testing", group="recipe", otherwise=RECIPE)
    longer: int | None = option(None, "limit on the longer side", group="recipe", otherwise=RECIPE)
    crop: int | None = option(
        None, _for("crop", "side of the squares that are trained on, in pixels"), group="recipe", otherwise=RECIPE
    )
    scales: tuple[float, ...] | None = option(
        None, _for("scales", "least and largest scale in training, of the shorter side drawn"), group="recipe",
        otherwise=RECIPE,
    )  # fmt: skip
    metric: str | None = option(
        None, "by which the best weights are chosen; last takes the newest", group="recipe",
        choices=tuple(dict.fromkeys(metric for row in HEADS.values() for metric in row.metrics)),
        otherwise="AP; fcn: mIoU; voc0712: last, since its val is the test set",
    )  # fmt: skip
    patience: int = option(0, "stop after so many evaluations without better weights; 0 for never", group="recipe")

    compile: bool = option(False, "compile the whole step into one graph", group="machine")

    eval_backend: str = option("pycocotools", "who computes COCO's numbers", group="output",
                               choices=("pycocotools", "hotcoco"))  # fmt: skip

    @classmethod
    def renewed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """For segmenters ``shorter`` was one number once, of training and testing, and ``metric`` was not asked."""
        side, head = values.get("shorter"), HEADS.get(str(values.get("head")))
        if not isinstance(side, int):
            return values
        return {"test_shorter": side, "metric": head and head.metrics[0], **values, "shorter": [side]}


def resolve(options: TrainingOptions, initial: Settings | None = None) -> TrainingOptions:
    """Fill every ``None`` from the recipe, and check that the numbers make sense.

    Args:
        options: as given.
        initial: the model that ``init_from`` names; its design stands before the recipe's.

    Raises:
        InputError: an unknown recipe or backbone, an impossible number, or things that do not go together.
    """
    options, recipe = _choose_head(options, initial)
    row, splits, steps_given = HEADS[recipe.head], default_splits(options.dataset), options.iterations is not None
    require_positive(options, *(() if steps_given else ("images",)))
    filled: Resolved = with_length(options, recipe.batch_size, options.images or recipe.images)
    if steps_given:
        filled = replace(filled, images=filled.iterations * filled.batch_size)
    filled = _start(filled, recipe, initial)
    settings = design(filled, initial)
    newest = (options.dataset, options.val_split) == ("voc0712", None)
    values: dict[str, Any] = {
        **{flag: getattr(recipe, flag) for flag in _OF_SCHEDULES if recipe.head in _having(flag)},
        **{flag: _read(settings, flag) for flag in _FIELDS if recipe.head in _having(flag)},
        "split": splits[0],
        "val_split": splits[1],
        "metric": "last" if newest else row.metrics[0],
        "output": default_folder(options.dataset, str(filled.backbone)) + ("" if row.maker else f"-{recipe.head}"),
    }
    filled = replace(filled, **{name: value for name, value in values.items() if getattr(filled, name) is None})
    _check(filled)
    return filled  # type: ignore[no-any-return]


def design(options: TrainingOptions, initial: Settings | None = None) -> Settings:
    """The model that options stand for, without its classes: the recipe's, with the fields changed that flags name.

    Args:
        options: with recipe, head and backbone.
        initial: the model to start from: what its weights were made for stays, all else is the recipe's.
    """
    recipe = recipe_of(options)
    settings: Any = recipe.settings
    if initial is not None:
        settings = replace(initial, **{name: getattr(settings, name) for name in initial.OF_TRAINING})
    settings = replace(settings, backbone=str(options.backbone))
    if options.batch_norm:
        settings = replace(settings, frozen_norm=options.batch_norm == "frozen")
    if isinstance(settings, DetectorSettings):
        branch = (settings.masks or getattr(recipe.settings, "masks", None)) if options.masks else None
        settings = replace(settings, masks=branch, context=options.context or settings.context)
    for flag in _FIELDS:
        value = getattr(options, flag)
        if value is not None and value != _read(settings, flag):
            settings = _changed(settings, flag, value)
    return settings  # type: ignore[no-any-return]


def recipe_of(options: TrainingOptions) -> Recipe:
    """The recipe of options that name recipe and head."""
    return find_recipe(str(options.recipe), options.head, _is_coco(options.dataset))


def facts_of(options: TrainingOptions) -> dict[str, Any]:
    """What a report lists of a run's options."""
    return {flag: value for flag, value in as_facts(options).items() if options.head in _having(flag)}


def _read(settings: Any, flag: str) -> Any:
    """What a flag would be called that asks for what the settings have."""
    part, name = _FIELDS[flag]
    value = getattr(getattr(settings, part) if part else settings, name)
    return tuple(size for level in value for size in level) if flag == "anchor_sizes" else value


def _changed(settings: Any, flag: str, value: Any) -> Any:
    """Settings with the field changed that a flag names."""
    part, name = _FIELDS[flag]
    if not part:
        return replace(settings, **{name: value})
    before = getattr(settings, part)
    changes = {name: value}
    if flag == "anchor_sizes":
        changes[name] = tuple((size,) for size in value) if HEADS[settings.head].pyramid else (value,)
    if name == "after_nms":  # out of as many times more boxes as before
        changes["before_nms"] = before.before_nms * value // before.after_nms
    return replace(settings, **{part: replace(before, **changes)})


def _choose_head(options: TrainingOptions, initial: Settings | None) -> tuple[TrainingOptions, Recipe]:
    """Recipe, head and backbone: given, or those of the model to start from, or as they go together."""
    for name in ("backbone", "head"):
        ours, theirs = getattr(options, name), getattr(initial, name, None)
        if theirs and ours not in (None, theirs):
            raise InputError(f"--{name} {ours}: --init-from {options.init_from} has {theirs}; leave --{name} out")
        options = replace(options, **{name: theirs or ours})
    for name, value, known in (("head", options.head, HEADS), ("backbone", options.backbone, list_backbones())):
        if value is not None and value not in known:
            raise InputError(f"no {name} is named {value!r}{did_you_mean(value, known)}")
    default = HEADS[options.head].recipe if options.head else "paper"
    name = options.recipe or ("digits" if options.dataset == "digits" else default)
    recipe = find_recipe(name, options.head, _is_coco(options.dataset), options.backbone)
    options = replace(options, recipe=name, head=recipe.head, backbone=options.backbone or recipe.backbone)
    check_fit(recipe.head, str(options.backbone))
    for flag in _OF_HEADS:
        heads = _having(flag)
        if recipe.head not in heads and getattr(options, flag) != getattr(TrainingOptions, flag):
            only = " and ".join(heads)
            raise InputError(f"{flag_of(flag)} has no meaning for --head {recipe.head}; only for {only}")
    if recipe.crop and len(options.shorter or ()) == 1 and options.test_shorter is None:
        logger.warning(
            "--shorter %d is the side in training, as under every head; under --head %s it once was that of testing "
            "too, which is --test-shorter, here %d",
            *(options.shorter or ()), recipe.head, recipe.settings.input.shorter,
        )  # fmt: skip
    return options, recipe


def _start(options: TrainingOptions, recipe: Recipe, initial: Settings | None) -> TrainingOptions:
    """Where the weights come from, and what that means for batch normalization and the first stages."""
    weights, batch_norm = options.weights, recipe.batch_norm
    if initial is None:
        weights = weights or recipe.weights or _published(str(options.backbone))
    elif weights is not None:
        raise InputError("--init-from brings its own backbone; leave --weights out")
    elif "frozen_norm" not in initial.OF_TRAINING:
        batch_norm = "frozen" if initial.frozen_norm else "trained"
    pretrained = weights != "none"
    freeze = recipe.freeze if recipe.freeze is not None else 2 if pretrained else 0
    return replace(
        options,
        weights=weights,
        freeze=freeze if options.freeze is None else options.freeze,
        batch_norm=options.batch_norm or batch_norm or ("frozen" if pretrained else "trained"),
    )


def _published(backbone: str) -> str:
    from backbones.weights.published import published_name  # with torch, which --help can do without

    return published_name(backbone)


def _check(options: Resolved) -> None:
    require_positive(
        options, "learning_rate", "test_shorter", "longer", "accumulate", "region_samples", "train_proposals",
        "test_proposals", "shorter", "anchor_sizes", "output_stride", "crop", "scales",
    )  # fmt: skip
    require_not_negative(options, "freeze", "warmup_images", "weight_decay", "clip_norm", "patience", "channels")
    require_below_one(options, "ema", "dropout")
    if options.scales and (len(options.scales) != 2 or options.scales[0] > options.scales[1]):
        raise InputError(f"--scales must be two positive numbers, the smaller first, not {options.scales}")
    if options.metric not in HEADS[options.head].metrics:
        known = ", ".join(HEADS[options.head].metrics)
        raise InputError(f"--metric {options.metric}: --head {options.head} is measured by {known}")
    if options.metric.startswith("mask_") and not options.masks:
        raise InputError(f"--metric {options.metric} needs --masks")
    if options.patience and (options.val_split == "none" or options.metric == "last"):
        raise InputError("--patience needs a validation split and a metric; leave out --val-split none, --metric last")


def _is_coco(dataset: str) -> bool:
    return dataset.partition(":")[0].startswith("coco")
