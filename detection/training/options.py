"""The options of ``detection/train.py``. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backbones.errors import InputError, did_you_mean
from backbones.running.command_line import OutputOptions, option
from backbones.variants import VARIANTS, VGGVariant, list_backbones
from detection.data.names import HELP, default_splits
from detection.settings import HEADS, DetectorSettings
from detection.training.recipes import RECIPES, find_recipe

RECIPE = "the recipe's"
METRICS = ("AP", "AP50", "AP75", "VOC_mAP", "VOC07_mAP", "mask_AP", "mask_AP50", "mask_AP75", "last")
_OF_HEADS = {"channels": ("fpn",), "vector": ("fpn", "vgg"), "dropout": ("vgg",)}
"""Settings that only some heads have."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(OutputOptions):
    """Everything that decides a training run. ``None`` means: as the recipe says."""

    dataset: str = option("digits", HELP, group="data")
    split: str | None = option(None, "what to train on", group="data", otherwise="train")
    val_split: str | None = option(
        None, "what to choose the best weights by; none keeps the last", group="data", otherwise="val"
    )
    data_dir: str | None = option(None, "where named sets lie", group="data", metavar="DIR",
                                  otherwise="$DATA_DIR or data")  # fmt: skip
    download: bool = option(False, "fetch a named set with a public address", group="data")
    workers: int = option(-1, "processes that read images; -1 chooses", group="data")
    learn_ignored: bool = option(False, "train on crowds and difficult objects too", group="data")

    backbone: str | None = option(None, "the network", group="model", choices=list_backbones, otherwise=RECIPE)
    head: str | None = option(
        None, "c4: conv5 for each region, as in the paper; fpn: a feature pyramid; vgg: fc6 and fc7 for each region",
        group="model", choices=HEADS, otherwise=RECIPE,
    )  # fmt: skip
    weights: str | None = option(
        None, "pretrained weights: a run folder, a file (.safetensors, .pth, .pkl, .xz), torchvision://NAME, "
        "msra://NAME, or none; a detector is taken whole, as by --init-from", group="model",
        otherwise="the published ones; digits: none",
    )  # fmt: skip
    init_from: str | None = option(
        None, "a detector to start from (a run folder, a file, torchvision://NAME or detectron2://NAME): its design, "
        "and all that fits of its weights, classes by their names",
        group="model", metavar="MODEL",
    )  # fmt: skip
    freeze: int | None = option(
        None, "stages that learn nothing (2: conv1 and conv2_x)", group="model", otherwise="2 if pretrained, else 0"
    )
    batch_norm: str | None = option(
        None, "statistics fixed or trained along", group="model", choices=("frozen", "trained"),
        otherwise="frozen if pretrained",
    )  # fmt: skip
    masks: bool = option(False, "a mask for each object (Mask R-CNN); the data must have masks", group="model")
    context: bool = option(False, "global context: the whole image beside each region (appendix B)", group="model")
    pool: str | None = option(
        None, "RoIAlign, or the paper's RoI pooling", group="model", choices=("align", "pool"), otherwise=RECIPE
    )
    anchor_sizes: tuple[int, ...] | None = option(
        None, "in pixels; with fpn one for each level, the finest first", group="model", otherwise=RECIPE
    )
    channels: int | None = option(None, "fpn: width of the pyramid", group="model", otherwise=RECIPE)
    vector: int | None = option(None, "fpn, vgg: width of the linear layers", group="model", otherwise=RECIPE)
    dropout: float | None = option(None, "vgg: behind each linear layer", group="model", otherwise=RECIPE)
    region_samples: int | None = option(
        None, "regions of each image that the second stage learns from", group="model", otherwise=RECIPE
    )
    train_proposals: int | None = option(None, "proposals of each image in training", group="model", otherwise=RECIPE)
    test_proposals: int | None = option(None, "proposals of each image in testing", group="model", otherwise=RECIPE)

    recipe: str | None = option(
        None, "named settings for all that is not given", group="recipe", choices=tuple(RECIPES),
        otherwise="paper; digits for digits",
    )  # fmt: skip
    batch_size: int | None = option(None, "images of one step, over all processes", group="recipe", otherwise=RECIPE)
    accumulate: int = option(1, "parts in which a batch is computed, one after the other, to save memory",
                             group="recipe")  # fmt: skip
    iterations: int | None = option(None, "steps", group="recipe", otherwise="images / batch size")
    images: int | None = option(None, "images seen in the whole run", group="recipe", otherwise=RECIPE)
    learning_rate: float | None = option(
        None, "for a batch of 16; scaled linearly to the real batch", group="recipe", otherwise=RECIPE
    )
    milestones: tuple[float, ...] | None = option(
        None, "parts of the run after which the learning rate falls to a tenth", group="recipe", otherwise=RECIPE
    )
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
    metric: str | None = option(
        None, "by which the best weights are chosen; last takes the newest", group="recipe", choices=METRICS,
        otherwise="AP; voc0712: last, since its val is the test set",
    )  # fmt: skip
    patience: int = option(0, "stop after so many evaluations without better weights; 0 for never", group="recipe")
    seed: int = option(0, "of every random draw", group="recipe")

    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of convolutions and matrix products", group="machine",
                            choices=("fp32", "bf16", "fp16"))  # fmt: skip
    compile: bool = option(False, "compile the whole step into one graph", group="machine")

    output: str | None = option(None, "run folder", group="output", metavar="DIR", otherwise="runs/DATASET-BACKBONE")
    resume: str | None = option(None, "go on with the run in this folder", group="output", metavar="DIR")
    evaluate_every: int = option(0, "iterations between evaluations; 0 for ten in a run", group="output")
    checkpoint_every: int = option(0, "iterations between saved states; 0 for as often as evaluations", group="output")
    log_every: int = option(20, "iterations between log lines", group="output")
    eval_backend: str = option("pycocotools", "who computes COCO's numbers", group="output",
                               choices=("pycocotools", "hotcoco"))  # fmt: skip
    tensorboard: bool = option(True, "write TensorBoard files if it is installed", group="output")


def resolve(options: TrainingOptions, initial: DetectorSettings | None = None) -> TrainingOptions:
    """Fill every ``None`` from the recipe, and check that the numbers make sense.

    Args:
        options: as given.
        initial: the detector that ``init_from`` names; its design stands before the recipe's.

    Raises:
        InputError: an unknown recipe or backbone, an impossible number, or things that do not go together.
    """
    options = _choose_design(options, initial)
    values = _recipe_values(options, initial)
    options = replace(options, **{name: value for name, value in values.items() if getattr(options, name) is None})
    options = _start(options, initial)
    batch_size = _positive(options, "batch_size")
    if options.iterations is None:
        options = replace(options, iterations=-(-_positive(options, "images") // batch_size))
    else:
        options = replace(options, images=_positive(options, "iterations") * batch_size)
    splits = default_splits(options.dataset)
    every = options.evaluate_every or max(1, -(-_positive(options, "iterations") // 10))
    options = replace(
        options,
        split=options.split or splits[0],
        val_split=options.val_split or splits[1],
        metric=options.metric or ("last" if (options.dataset, options.val_split) == ("voc0712", None) else "AP"),
        evaluate_every=every,
        checkpoint_every=options.checkpoint_every or every,
        output=options.output or str(Path("runs") / f"{_folder_name(options.dataset)}-{options.backbone}"),
    )
    _check(options)
    return options


def design_of(options: TrainingOptions, initial: DetectorSettings | None = None) -> DetectorSettings:
    """The detector that options stand for before what they give themselves, without backbone and classes.

    Args:
        options: with ``recipe`` and ``head``.
        initial: the detector to start from: what its weights were made for stays, all else is the recipe's.
    """
    recipe = find_recipe(str(options.recipe), options.head, _is_coco(options.dataset))
    masks = recipe.masks if options.masks else None
    if initial is None:
        return replace(recipe.detector, masks=masks)
    return replace(
        initial,
        input=recipe.detector.input,
        train_proposals=recipe.detector.train_proposals,
        test_proposals=recipe.detector.test_proposals,
        rpn_sampling=recipe.detector.rpn_sampling,
        roi_sampling=recipe.detector.roi_sampling,
        output=recipe.detector.output,
        masks=masks and (initial.masks or masks),
        score_thresholds=(),
    )


def _choose_design(options: TrainingOptions, initial: DetectorSettings | None) -> TrainingOptions:
    """Recipe, head and backbone: given, or those of the detector to start from, or as they go together."""
    recipe = options.recipe or ("digits" if options.dataset == "digits" else "paper")
    if initial is not None:
        for name, theirs in (("backbone", initial.backbone), ("head", initial.head)):
            ours = getattr(options, name)
            if ours not in (None, theirs):
                raise InputError(f"--{name} {ours}: --init-from {options.init_from} has {theirs}; leave --{name} out")
        options = replace(options, backbone=initial.backbone, head=initial.head)
    known = list_backbones()
    if options.backbone is not None and options.backbone not in known:
        raise InputError(f"no backbone is named {options.backbone!r}{did_you_mean(options.backbone, known)}")
    head = options.head or ("vgg" if _is_vgg(options.backbone) else None)
    found = find_recipe(recipe, head, _is_coco(options.dataset))
    options = replace(options, recipe=recipe, head=found.detector.head, backbone=options.backbone or found.backbone)
    if _is_vgg(options.backbone) != (options.head == "vgg"):
        fitting = "vgg" if _is_vgg(options.backbone) else "c4 or fpn"
        raise InputError(f"--head {options.head} does not fit {options.backbone}; use --head {fitting}")
    if options.masks and options.head == "vgg":
        raise InputError("--masks: the vgg head has none; use --head fpn or c4")
    return options


def _recipe_values(options: TrainingOptions, initial: DetectorSettings | None) -> dict[str, Any]:
    """What the recipe, and the detector to start from, say to each option that may be left out."""
    recipe = find_recipe(str(options.recipe), options.head, _is_coco(options.dataset))
    design = design_of(options, initial)
    named = ("batch_size", "images", "learning_rate", "milestones", "shorter", "warmup_images", "weight_decay",
             "clip_norm")  # fmt: skip
    values: dict[str, Any] = {name: getattr(recipe, name) for name in named}
    values |= {
        "test_shorter": design.input.shorter,
        "longer": design.input.longer,
        "pool": design.pool.kind,
        "anchor_sizes": flat_sizes(design),
        "region_samples": design.roi_sampling.count,
        "train_proposals": design.train_proposals.after_nms,
        "test_proposals": design.test_proposals.after_nms,
    }
    for name, heads in _OF_HEADS.items():
        if options.head in heads:
            values[name] = getattr(design, name)
        elif getattr(options, name) is not None:
            raise InputError(f"--{name} has no meaning for --head {options.head}; only for {' and '.join(heads)}")
    return values


def _start(options: TrainingOptions, initial: DetectorSettings | None) -> TrainingOptions:
    """Where the weights come from, and what that means for batch normalization and the first stages."""
    recipe = find_recipe(str(options.recipe), options.head, _is_coco(options.dataset))
    batch_norm = recipe.batch_norm
    if initial is not None:
        if options.weights is not None:
            raise InputError("--init-from brings its own backbone; leave --weights out")
        weights, batch_norm = None, "frozen" if initial.frozen_norm else "trained"
        options = replace(options, context=options.context or initial.context)
    else:
        weights = options.weights or recipe.weights or _published(str(options.backbone))
    pretrained = weights != "none"
    return replace(
        options,
        weights=weights,
        freeze=(2 if pretrained else 0) if options.freeze is None else options.freeze,
        batch_norm=options.batch_norm or batch_norm or ("frozen" if pretrained else "trained"),
    )


def _published(backbone: str) -> str:
    from backbones.weights.published import published_name  # with torch, which --help can do without

    return published_name(backbone)


def _check(options: TrainingOptions) -> None:
    for name in ("learning_rate", "test_shorter", "longer", "log_every", "evaluate_every", "checkpoint_every",
                 "accumulate", "region_samples", "train_proposals", "test_proposals"):  # fmt: skip
        _positive(options, name)
    for name in ("freeze", "warmup_images", "weight_decay", "clip_norm", "patience", "seed"):
        if getattr(options, name) < 0:
            raise InputError(f"{_flag(name)} must not be negative")
    for name in ("ema", "dropout"):
        if not 0 <= (getattr(options, name) or 0) < 1:
            raise InputError(f"{_flag(name)} must be from 0 to below 1, not {getattr(options, name)}")
    for name in ("shorter", "anchor_sizes"):
        if not getattr(options, name) or min(getattr(options, name)) <= 0:
            raise InputError(f"{_flag(name)} must be positive")
    if str(options.metric).startswith("mask_") and not options.masks:
        raise InputError(f"--metric {options.metric} needs --masks")
    if options.patience and (options.val_split == "none" or options.metric == "last"):
        raise InputError("--patience needs a validation split and a metric; leave out --val-split none, --metric last")


def _positive(options: TrainingOptions, name: str) -> int:
    value: int = getattr(options, name)
    if value <= 0:
        raise InputError(f"{_flag(name)} must be positive, not {value}")
    return value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def flat_sizes(settings: DetectorSettings) -> tuple[int, ...]:
    """The anchor sizes of all levels, as ``--anchor-sizes`` names them."""
    return tuple(size for level in settings.anchors.sizes for size in level)


def _is_vgg(backbone: str | None) -> bool:
    return isinstance(VARIANTS.get(backbone or ""), VGGVariant)


def _is_coco(dataset: str) -> bool:
    return dataset.partition(":")[0].startswith("coco")


def _folder_name(dataset: str) -> str:
    layout, _, folder = dataset.partition(":")
    return Path(folder).resolve().name.lower() if folder else layout


def as_facts(options: TrainingOptions) -> dict[str, Any]:
    """What a report lists of a run's options."""
    return {name: value for name, value in dataclasses.asdict(options).items() if value not in (None, "", False)}
