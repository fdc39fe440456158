"""Recipes are those that were published, and what is given stands before them."""

from __future__ import annotations

from typing import Any

import pytest

from backbones.errors import InputError
from detection.settings import DetectorSettings, InputSettings, MaskSettings, default_settings
from detection.training.job import make_schedule
from detection.training.options import TrainingOptions, design, resolve
from detection.training.recipes import RECIPES, find_recipe
from tests.conftest import ROOT

COCO, VOC = "coco:data/coco", "voc:data/VOC2007"


def settings_of(**options: Any) -> DetectorSettings:
    return design(resolve(TrainingOptions(weights="none", **options)))


@pytest.mark.parametrize("backbone", ["resnet101", "vgg16"])
@pytest.mark.parametrize("dataset", [COCO, VOC])
def test_the_paper_is_the_default(backbone: str, dataset: str) -> None:
    """Every number of section 4.3 and appendix A, for both of its networks."""
    options = resolve(TrainingOptions(dataset=dataset, backbone=backbone, weights="none"))
    assert options.recipe == "paper"
    assert options.head == ("vgg" if backbone == "vgg16" else "c4")
    settings = design(options)
    assert (options.shorter, settings.input.shorter, settings.input.longer) == ((600,), 600, 1000)
    assert settings.anchors.sizes == ((64, 128, 256, 512) if dataset == COCO else (128, 256, 512),)
    assert settings.anchors.ratios == (0.5, 1.0, 2.0)
    assert (settings.pool.kind, settings.pool.size) == ("pool", 7 if backbone == "vgg16" else 14)
    rpn, roi = settings.rpn_sampling, settings.roi_sampling
    assert (rpn.count, rpn.positive_iou, rpn.negative_iou, rpn.keep_best) == (256, 0.7, 0.3, True)
    assert (roi.count, roi.positive_fraction, roi.positive_iou, roi.negative_iou) == (128, 0.25, 0.5, 0.5)
    assert roi.negative_floor == (0.0 if dataset == COCO else 0.1)
    proposals = (settings.train_proposals, settings.test_proposals)
    assert [(p.before_nms, p.after_nms, p.nms_threshold) for p in proposals] == [(12000, 2000, 0.7), (6000, 300, 0.7)]
    assert settings.output.nms_threshold == 0.3
    assert settings.roi_beta == 1.0  # Fast R-CNN's smooth L1
    assert settings.rpn_beta == pytest.approx(1 / 9)
    if backbone == "vgg16":
        assert (settings.vector, settings.dropout) == (4096, 0.5)
    assert resolve(TrainingOptions(dataset=dataset, backbone="resnet101")).batch_norm == "frozen"


def test_the_papers_schedules() -> None:
    coco = resolve(TrainingOptions(dataset="coco:x", weights="none"))
    assert (coco.iterations, coco.batch_size, coco.weight_decay) == (320_000, 16, 5e-4)
    rates = [make_schedule(coco).at(step * 16, 16) for step in (0, 239_999, 240_000, 319_999)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    voc = resolve(TrainingOptions(dataset="voc:x", weights="none"))
    assert (voc.iterations, voc.batch_size) == (80_000, 2)
    rates = [make_schedule(voc).at(step * 2, 2) for step in (0, 59_999, 60_000)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4])
    assert (coco.backbone, coco.head) == ("resnet101", "c4")


def test_recipes_of_the_model_zoos() -> None:
    options = resolve(TrainingOptions(dataset=COCO, recipe="1x", weights="none"))
    assert (options.iterations, options.batch_size, options.learning_rate) == (90_000, 16, 0.02)
    schedule = make_schedule(options)
    assert schedule.at(59_999 * 16, 16) == 0.02
    assert schedule.at(60_000 * 16, 16) == pytest.approx(0.002)
    assert schedule.at(80_000 * 16, 16) == pytest.approx(0.0002)
    assert schedule.at(500 * 16, 16) == pytest.approx(0.02 * (0.001 + 0.999 * 0.5))
    assert resolve(TrainingOptions(recipe="3x")).iterations == 270_000
    assert resolve(TrainingOptions(recipe="1x", batch_size=8)).iterations == 180_000  # the same images
    assert resolve(TrainingOptions(recipe="1x", batch_size=8, iterations=10)).images == 80


@pytest.mark.parametrize(("head", "train", "test"), [("fpn", (2000, 1000), (1000, 1000)),
                                                     ("c4", (12_000, 2000), (6000, 1000))])  # fmt: skip
def test_zoos_train_each_head_with_its_own_numbers(head: str, train: tuple[int, ...], test: tuple[int, ...]) -> None:
    settings = settings_of(recipe="1x", head=head)
    for proposals, wanted in ((settings.train_proposals, train), (settings.test_proposals, test)):
        assert (proposals.before_nms, proposals.after_nms) == wanted
    assert settings.roi_sampling.count == 512
    assert [size for level in settings.anchors.sizes for size in level] == [32, 64, 128, 256, 512]
    assert settings.pool.kind == "align"
    assert settings == DetectorSettings.from_dict(
        {**default_settings("resnet50_v15", (), head).to_dict(), "frozen_norm": False}
    )  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES["detection"])
@pytest.mark.parametrize("head", ["c4", "fpn", "vgg"])
def test_every_recipe_fits_every_head(recipe: str, head: str) -> None:
    if (recipe, head) == ("paper", "fpn"):
        with pytest.raises(InputError, match="--recipe paper is not for --head fpn; use --head c4 or vgg"):
            find_recipe(recipe, head)
        return
    settings = settings_of(recipe=recipe, head=head)
    assert settings.head == head
    assert len(settings.anchors.sizes) == (1 if head != "fpn" else 3 if recipe == "digits" else 5)
    assert settings.train_proposals.before_nms >= settings.train_proposals.after_nms


def test_the_small_recipes_are_narrow() -> None:
    assert settings_of(recipe="digits", head="vgg").vector == 256
    assert settings_of(recipe="quick", head="vgg").vector == 4096  # so that fc6 and fc7 come with the weights
    assert settings_of(recipe="digits", head="fpn").channels == 64
    assert settings_of(recipe="digits", head="c4").anchors.sizes == ((16, 32, 64),)
    digits = resolve(TrainingOptions())
    assert (digits.recipe, digits.backbone, digits.head, digits.weights) == ("digits", "resnet20", "fpn", "none")


def test_defaults_follow_the_weights() -> None:
    pretrained, scratch = resolve(TrainingOptions(dataset=VOC)), resolve(TrainingOptions(dataset=VOC, weights="none"))
    assert (pretrained.weights, pretrained.freeze, pretrained.batch_norm) == ("msra://resnet101", 2, "frozen")
    assert (scratch.freeze, scratch.batch_norm) == (0, "trained")
    zoo = resolve(TrainingOptions(dataset="voc:data/My Photos", recipe="1x"))
    assert (zoo.output, zoo.weights) == ("runs/my photos-resnet50_v15", "torchvision://resnet50_v15")
    assert resolve(TrainingOptions(recipe="digits")).batch_norm == "trained"


def test_switches_reach_the_settings() -> None:
    settings = settings_of(recipe="1x", masks=True, context=True, pool="pool", anchor_sizes=(8, 16, 32, 64, 128),
                           train_proposals=100)  # fmt: skip
    assert settings.masks == MaskSettings()
    assert settings.context
    assert settings.pool.kind == "pool"
    assert settings.anchors.sizes == ((8,), (16,), (32,), (64,), (128,))
    assert (settings.train_proposals.before_nms, settings.train_proposals.after_nms) == (200, 100)
    after_conv5 = settings_of(recipe="1x", head="c4", masks=True).masks
    assert after_conv5 is not None
    assert after_conv5.convs == 0
    assert settings_of(recipe="quick", masks=True).masks == MaskSettings(channels=128)
    assert settings_of(head="vgg", recipe="paper", dropout=0.1).dropout == 0.1
    assert settings_of(head="vgg", recipe="paper", pool="align").pool.kind == "align"


def test_a_detector_to_start_from_brings_its_design() -> None:
    initial = default_settings("resnet18", ("x",), "fpn", channels=96, rpn_convs=2, neck_norm=True, context=True)
    given = TrainingOptions(dataset=VOC, recipe="quick", init_from="runs/x")
    options = resolve(given, initial)
    assert (options.backbone, options.head, options.channels, options.weights) == ("resnet18", "fpn", 96, None)
    settings = design(options, initial)
    assert (settings.rpn_convs, settings.neck_norm, settings.context, settings.vector) == (2, True, True, 1024)
    assert settings.input == InputSettings(320, 640)  # the recipe's
    for wrong, message in (
        ({"backbone": "resnet50"}, "--backbone resnet50: --init-from runs/x has resnet18"),
        ({"head": "c4"}, "--head c4: --init-from runs/x has fpn"),
        ({"weights": "none"}, "--init-from brings its own backbone"),
    ):
        with pytest.raises(InputError, match=message):
            resolve(TrainingOptions(dataset=VOC, recipe="quick", init_from="runs/x", **wrong), initial)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "quikc"}, "did you mean 'quick'"),
        ({"backbone": "resnet19"}, "no backbone is named 'resnet19'"),
        ({"batch_size": 0}, "--batch-size must be positive"),
        ({"iterations": 0}, "--iterations must be positive"),
        ({"learning_rate": -1.0}, "--learning-rate must be positive"),
        ({"accumulate": 0}, "--accumulate must be positive"),
        ({"ema": 1.0}, "--ema must be from 0 to below 1, not 1.0"),
        ({"patience": -1}, "--patience must not be negative"),
        ({"shorter": (0,)}, "--shorter must be positive"),
        ({"patience": 2, "val_split": "none"}, "--patience needs a validation split"),
        ({"metric": "mask_AP"}, "--metric mask_AP needs --masks"),
        ({"head": "c4", "channels": 8}, "--channels has no meaning for --head c4; only for fpn"),
        ({"head": "c4", "vector": 8}, "--vector has no meaning for --head c4; only for fpn and vgg"),
        ({"backbone": "vgg16", "masks": True}, "--masks has no meaning for --head vgg; only for fpn and c4"),
        ({"backbone": "vgg16", "head": "c4"}, "--head c4 does not fit vgg16; use --head vgg"),
        ({"backbone": "resnet50", "head": "vgg"}, "--head vgg does not fit resnet50; use --head c4 or fpn"),
        ({"dataset": VOC, "backbone": "resnet20"}, "no published weights are known for resnet20; .* --weights none"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(TrainingOptions(**wrong))


TABLE = (
    "| recipe, head | network | images | batch | rate for 16 | falls at | decay | shorter sides; test, longest "
    "| anchors | pooling | proposals: training, testing | regions |\n" + "|---" * 12 + "|\n"
)


def table_row(name: str, head: str, coco: bool) -> str:
    recipe = find_recipe(name, head, coco)
    detector = recipe.settings
    shorter = f"{recipe.shorter[0]} to {recipe.shorter[-1]}" if len(recipe.shorter) > 1 else recipe.shorter[0]
    data = (", COCO" if coco else ", VOC") if name == "paper" else ""
    proposals = [f"{p.before_nms:,} > {p.after_nms:,}" for p in (detector.train_proposals, detector.test_proposals)]
    cells = (
        f"`{name}` {head}{data}", f"`{recipe.backbone}`", f"{recipe.images:,}", recipe.batch_size,
        f"{recipe.learning_rate:g}", ", ".join(f"{part:.3g}" for part in recipe.milestones),
        f"{recipe.weight_decay:g}", f"{shorter}; {detector.input.shorter}, {detector.input.longer}",
        " ".join(str(size) for level in detector.anchors.sizes for size in level),
        f"{detector.pool.kind} {detector.pool.size}", "; ".join(proposals), detector.roi_sampling.count,
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def test_the_documented_recipes_are_the_real_ones() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = [
        table_row(name, head, coco)
        for name in RECIPES["detection"]
        for head in ("c4", "vgg", "fpn")
        for coco in ((False, True) if name == "paper" else (False,))
        if (name, head) != ("paper", "fpn")
    ]
    documented = text.split("<!-- table recipes -->\n")[1].split("<!-- end -->")[0]
    assert documented == TABLE + "\n".join(rows) + "\n", "put the left side into docs/training.md"


def test_every_option_of_training_comfort_is_documented() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for flag in ("--init-from", "--ema", "--accumulate", "--patience", "--metric", "--freeze", "--masks", "--context",
                 "--pool", "--learn-ignored", "--workers", "--resume", "--config", "--download"):  # fmt: skip
        assert f"`{flag}" in text, flag
