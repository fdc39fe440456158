"""The options of ``detection/train.py --head fcn``. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError, did_you_mean
from backbones.running.command_line import OutputOptions, option
from backbones.variants import list_backbones
from detection.data.names import default_splits
from detection.segmentation.recipes import RECIPES
from detection.segmentation.settings import SegmenterSettings

HEAD = "fcn"
RECIPE = "the recipe's"


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(OutputOptions):
    """Everything that decides the training of a segmenter. ``None`` means: as the recipe says."""

    dataset: str = option(
        "digits", "voc2007, voc2012, voc:DIR (label images); digits, coco, coco2014, coco:DIR (painted from masks)",
        group="data",
    )  # fmt: skip
    split: str | None = option(None, "what to train on", group="data", otherwise="train")
    val_split: str | None = option(
        None, "what to choose the best weights by; none keeps the last", group="data", otherwise="val"
    )
    data_dir: str | None = option(None, "where named sets lie", group="data", metavar="DIR",
                                  otherwise="$DATA_DIR or data")  # fmt: skip
    download: bool = option(False, "fetch a named set with a public address", group="data")
    workers: int = option(-1, "processes that read images; -1 chooses", group="data")

    head: str = option(HEAD, "fcn: a class for every pixel", group="model", choices=(HEAD,))
    backbone: str | None = option(None, "the network", group="model", choices=list_backbones, otherwise=RECIPE)
    weights: str | None = option(
        None, "pretrained weights: a run folder, a file (.safetensors, .pth, .pkl, .xz), torchvision://NAME, "
        "msra://NAME, or none", group="model", otherwise="the published ones; digits: none",
    )  # fmt: skip
    init_from: str | None = option(
        None, "a segmenter to start from, torchvision's fcn_resnet50 (.pth) too; classes by their names",
        group="model", metavar="MODEL",
    )  # fmt: skip
    freeze: int = option(0, "stages that learn nothing (2: conv1 and conv2_x)", group="model")
    batch_norm: str | None = option(
        None, "statistics of the backbone fixed or trained along", group="model", choices=("frozen", "trained"),
        otherwise=RECIPE,
    )  # fmt: skip
    output_stride: int | None = option(
        None, "of the last map, by dilation: 16, or 8, which is finer and slower", group="model", otherwise=RECIPE
    )
    channels: int | None = option(
        None, "width of the head; 0 for a quarter of the backbone's last map", group="model", otherwise=RECIPE
    )
    auxiliary: bool | None = option(
        None, "train with a second head, on the map before the last", group="model", otherwise=RECIPE
    )

    recipe: str | None = option(
        None, "named settings for all that is not given", group="recipe", choices=tuple(RECIPES),
        otherwise="voc; digits for digits",
    )  # fmt: skip
    batch_size: int | None = option(None, "images of one step, over all processes", group="recipe", otherwise=RECIPE)
    iterations: int | None = option(None, "steps", group="recipe", otherwise="images / batch size")
    images: int | None = option(None, "images seen in the whole run", group="recipe", otherwise=RECIPE)
    learning_rate: float | None = option(
        None, "for a batch of 16, falling to zero as a cosine; scaled linearly to the real batch", group="recipe",
        otherwise=RECIPE,
    )  # fmt: skip
    warmup_images: int | None = option(
        None, "images over which the learning rate climbs", group="recipe", otherwise=RECIPE
    )
    weight_decay: float = option(1e-4, "on every parameter", group="recipe")
    clip_norm: float | None = option(
        None, "limit on the norm of the gradient; 0 for none", group="recipe", otherwise=RECIPE
    )
    ema: float = option(
        0.0, "decay of a moving average of the weights, such as 0.999, which is evaluated and kept; 0 for none",
        group="recipe",
    )  # fmt: skip
    crop: int | None = option(
        None, "side of the squares that are trained on, in pixels", group="recipe", otherwise=RECIPE
    )
    scales: tuple[float, ...] | None = option(
        None, "least and largest scale in training", group="recipe", otherwise=RECIPE
    )
    shorter: int | None = option(
        None, "shorter side of a picture in testing, and in training at scale 1", group="recipe", otherwise=RECIPE
    )
    longer: int | None = option(None, "limit on the longer side", group="recipe", otherwise=RECIPE)
    patience: int = option(0, "stop after so many evaluations without better weights; 0 for never", group="recipe")
    seed: int = option(0, "of every random draw", group="recipe")

    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of convolutions and matrix products", group="machine",
                            choices=("fp32", "bf16", "fp16"))  # fmt: skip
    compile: bool = option(False, "compile the whole step into one graph", group="machine")

    output: str | None = option(None, "run folder", group="output", metavar="DIR",
                                otherwise="runs/DATASET-BACKBONE-fcn")  # fmt: skip
    resume: str | None = option(None, "go on with the run in this folder", group="output", metavar="DIR")
    evaluate_every: int = option(0, "iterations between evaluations; 0 for ten in a run", group="output")
    checkpoint_every: int = option(0, "iterations between saved states; 0 for as often as evaluations", group="output")
    log_every: int = option(20, "iterations between log lines", group="output")
    tensorboard: bool = option(True, "write TensorBoard files if it is installed", group="output")


def resolve(options: SegmentationOptions, initial: SegmenterSettings | None = None) -> SegmentationOptions:
    """Fill every ``None`` from the recipe, and check that the numbers make sense.

    Args:
        options: as given.
        initial: the segmenter that ``init_from`` names; its backbone and the width of its head stay.

    Raises:
        InputError: an unknown recipe or backbone, an impossible number, or things that do not go together.
    """
    recipe = options.recipe or ("digits" if options.dataset == "digits" else "voc")
    if recipe not in RECIPES:
        raise InputError(
            f"no recipe is named {recipe!r}{did_you_mean(recipe, RECIPES)}; there are {', '.join(RECIPES)}"
        )
    train, val = default_splits(options.dataset)
    options = dataclasses.replace(
        options, recipe=recipe, split=options.split or train, val_split=options.val_split or val
    )
    for values in (_settled_by(options, initial), RECIPES[recipe]):
        filled = {name: value for name, value in values.items() if getattr(options, name) is None}
        options = dataclasses.replace(options, **filled)
    if options.backbone not in list_backbones():
        name = str(options.backbone)
        raise InputError(f"no backbone is named {name!r}{did_you_mean(name, list_backbones())}")
    for name in ("batch_size", "learning_rate", "output_stride", "crop", "shorter", "longer", "log_every"):
        _require(options, name, getattr(options, name) > 0, "must be positive")
    for name in ("seed", "freeze", "evaluate_every", "checkpoint_every", "channels", "patience", "weight_decay"):
        _require(options, name, getattr(options, name) >= 0, "must not be negative")
    assert options.batch_size is not None and options.scales is not None
    _require(options, "scales", len(options.scales) == 2 and 0 < options.scales[0] <= options.scales[1],
             "must be two positive numbers, the smaller first")  # fmt: skip
    _require(options, "ema", 0 <= options.ema < 1, "must be from 0 to below 1")
    if options.patience and options.val_split == "none":
        raise InputError("--patience needs a validation split; leave out --val-split none")
    if options.iterations is None:
        _require(options, "images", (options.images or 0) > 0, "must be positive")
        options = dataclasses.replace(options, iterations=-(-(options.images or 0) // options.batch_size))
    _require(options, "iterations", (options.iterations or 0) > 0, "must be positive")
    iterations, batch_size = options.iterations or 0, options.batch_size or 0
    every = options.evaluate_every or max(1, -(-iterations // 10))
    place = options.dataset.partition(":")[2]
    folder = Path(place).resolve().name.lower() if place else options.dataset
    return dataclasses.replace(
        options,
        images=iterations * batch_size,
        evaluate_every=every,
        checkpoint_every=options.checkpoint_every or every,
        output=options.output or str(Path("runs") / f"{folder}-{options.backbone}-{HEAD}"),
    )


def _settled_by(options: SegmentationOptions, initial: SegmenterSettings | None) -> dict[str, Any]:
    """What is no longer free where a run starts from another segmenter."""
    if initial is None:
        return {}
    settled = {"backbone": initial.backbone, "channels": initial.channels}
    for name, theirs in settled.items():
        if getattr(options, name) not in (None, theirs):
            raise InputError(f"--{name} {getattr(options, name)}: {options.init_from} has {theirs}; leave --{name} out")
    if options.weights is not None:
        raise InputError("--init-from brings its own backbone; leave --weights out")
    return settled


def _require(options: SegmentationOptions, name: str, holds: bool, what: str) -> None:
    if not holds:
        raise InputError(f"--{name.replace('_', '-')} {what}, not {getattr(options, name)}")
