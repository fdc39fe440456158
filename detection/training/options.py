"""The options of ``detection/train.py``. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError, did_you_mean
from backbones.running.command_line import CommandOptions, option
from backbones.variants import list_backbones
from detection.settings import HEADS
from detection.training.recipes import RECIPES


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(CommandOptions):
    """Everything that decides a training run. ``None`` means: as the recipe says."""

    dataset: str = option("digits", "digits, voc:DIR or coco:DIR", group="data")
    split: str = option("train", "what to train on", group="data")
    val_split: str = option("val", "what to choose the best weights by; 'none' keeps the last", group="data")
    workers: int = option(-1, "processes that read images; -1 chooses", group="data")
    learn_ignored: bool = option(False, "train on crowds and difficult objects too", group="data")

    backbone: str = option("resnet50_v15", "the network", group="model", choices=list_backbones)
    head: str | None = option(
        None,
        "fpn: a feature pyramid; c4: conv5 for each region, as in the paper; by default fpn",
        group="model",
        choices=HEADS,
    )
    weights: str | None = option(
        None,
        "pretrained weights: a run folder, a file (.safetensors, .pth, .pth.xz), torchvision://NAME, or none; "
        "by default the published ones",
        group="model",
    )
    freeze: int | None = option(
        None, "stages that learn nothing (2: conv1 and conv2_x, the default with pretrained weights)", group="model"
    )
    batch_norm: str | None = option(
        None, "statistics fixed or trained along; fixed by default if pretrained", group="model",
        choices=("frozen", "trained"),
    )  # fmt: skip
    anchor_sizes: tuple[int, ...] | None = option(None, "anchor sizes, finest level first, in pixels", group="model")
    channels: int | None = option(None, "width of the feature pyramid", group="model")
    vector: int | None = option(None, "width of the two linear layers of the FPN head", group="model")
    region_samples: int | None = option(None, "regions of each image that the second stage learns from", group="model")
    train_proposals: int | None = option(None, "proposals of each image in training", group="model")
    test_proposals: int | None = option(None, "proposals of each image in testing", group="model")

    recipe: str = option("1x", "named settings for all that is not given", group="recipe", choices=tuple(RECIPES))
    batch_size: int | None = option(None, "images of one step, over all processes", group="recipe")
    iterations: int | None = option(None, "steps; by default the recipe's images / batch size", group="recipe")
    images: int | None = option(None, "images seen in the whole run", group="recipe")
    learning_rate: float | None = option(None, "for a batch of 16; scaled linearly to the real batch", group="recipe")
    milestones: tuple[float, ...] | None = option(
        None, "parts of the run after which the learning rate falls to a tenth", group="recipe"
    )
    warmup_images: int | None = option(None, "images over which the learning rate climbs", group="recipe")
    weight_decay: float = option(1e-4, "on every parameter", group="recipe")
    clip_norm: float | None = option(None, "limit on the norm of the gradient; 0 for none", group="recipe")
    shorter: tuple[int, ...] | None = option(None, "shorter sides to draw from in training", group="recipe")
    test_shorter: int | None = option(None, "shorter side in testing", group="recipe")
    longer: int | None = option(None, "limit on the longer side", group="recipe")
    seed: int = option(0, "of every random draw", group="recipe")

    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of convolutions and matrix products", group="machine",
                            choices=("fp32", "bf16", "fp16"))  # fmt: skip
    compile: bool = option(False, "compile the whole step into one graph", group="machine")

    output: str | None = option(None, "run folder (by default runs/DATASET-BACKBONE)", group="output", metavar="DIR")
    resume: str | None = option(None, "go on with the run in this folder", group="output", metavar="DIR")
    evaluate_every: int = option(0, "iterations between evaluations; 0 for ten in a run", group="output")
    checkpoint_every: int = option(0, "iterations between saved states; 0 for as often as evaluations", group="output")
    log_every: int = option(20, "iterations between log lines", group="output")
    eval_backend: str = option("pycocotools", "who computes COCO's numbers", group="output",
                               choices=("pycocotools", "hotcoco"))  # fmt: skip
    tensorboard: bool = option(True, "write TensorBoard files if it is installed", group="output")


def resolve(options: TrainingOptions) -> TrainingOptions:
    """Fill every ``None`` from the recipe, and check that the numbers make sense.

    Raises:
        InputError: an unknown recipe or backbone, or an impossible number.
    """
    if options.recipe not in RECIPES:
        raise InputError(f"no recipe is named {options.recipe!r}{did_you_mean(options.recipe, RECIPES)}")
    if options.backbone not in list_backbones():
        raise InputError(f"no backbone is named {options.backbone!r}{did_you_mean(options.backbone, list_backbones())}")
    filled: dict[str, Any] = {
        name: value for name, value in RECIPES[options.recipe].items() if getattr(options, name) is None
    }
    options = dataclasses.replace(options, **filled)
    batch_size = _positive(options, "batch_size")
    if options.iterations is None:
        options = dataclasses.replace(options, iterations=-(-_positive(options, "images") // batch_size))
    else:
        options = dataclasses.replace(options, images=_positive(options, "iterations") * batch_size)
    every = options.evaluate_every or max(1, -(-_positive(options, "iterations") // 10))
    pretrained = options.weights != "none"
    options = dataclasses.replace(
        options,
        evaluate_every=every,
        checkpoint_every=options.checkpoint_every or every,
        freeze=(2 if pretrained else 0) if options.freeze is None else options.freeze,
        batch_norm=options.batch_norm or ("frozen" if pretrained else "trained"),
        output=options.output or str(Path("runs") / f"{_folder_name(options.dataset)}-{options.backbone}"),
    )
    for name in ("learning_rate", "test_shorter", "longer", "log_every", "evaluate_every"):
        _positive(options, name)
    return options


def _positive(options: TrainingOptions, name: str) -> int:
    value: int = getattr(options, name)
    if value <= 0:
        raise InputError(f"--{name.replace('_', '-')} must be positive, not {value}")
    return value


def _folder_name(dataset: str) -> str:
    layout, _, folder = dataset.partition(":")
    return Path(folder).resolve().name.lower() if folder else layout
