"""The recipes of sections 3.4 and 4.2, as learning rates by iteration and as settings."""

from __future__ import annotations

import pytest
import torch

from backbones.building import build_backbone
from backbones.errors import InputError
from backbones.pretraining.job import make_schedule
from backbones.pretraining.options import TrainingOptions, parse_seeds, resolve
from backbones.pretraining.recipes import IMAGENET, MODERN, find_recipe
from backbones.pretraining.steps import make_optimizer
from backbones.running.learning_rate import NOTHING, Observed, Schedule, count_drops


def rates(options: TrainingOptions, steps: tuple[int, ...], observed: Observed = NOTHING) -> list[float]:
    """The learning rate of the steps."""
    options = resolve(options)
    schedule = make_schedule(options)
    return [schedule.at(step * options.batch_size, options.batch_size, observed) for step in steps]


def test_cifar_rates_are_those_of_section_4_2() -> None:
    options = resolve(TrainingOptions(arch="resnet56"))
    assert (options.iterations, options.batch_size) == (64_000, 128)
    steps = (0, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_999)
    assert rates(TrainingOptions(arch="resnet56"), steps) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_110_layers_start_at_a_tenth_until_the_error_falls() -> None:
    options = TrainingOptions(arch="resnet110")
    steps = (0, 399, 400, 31_999, 32_000, 47_999, 48_000)
    assert rates(options, steps[:3]) == pytest.approx([0.01, 0.01, 0.01])
    ended = Observed(warmup_end=400 * 128)
    assert rates(options, steps, ended) == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001])
    assert find_recipe("paper", "resnet56").error_warmup is None
    assert find_recipe("paper", "plain110").error_warmup == find_recipe("paper", "resnet1202").error_warmup == 0.1


def test_imagenet_settings_are_those_of_section_3_4() -> None:
    options = resolve(TrainingOptions(arch="resnet50", dataset="imagenet"))
    assert (options.iterations, options.batch_size, options.learning_rate) == (600_000, 256, 0.1)
    assert options.schedule == "plateau"
    recipe = find_recipe("paper", "resnet50")
    assert recipe == IMAGENET
    assert (recipe.momentum, recipe.weight_decay, recipe.decay) == (0.9, 1e-4, "all")
    assert (recipe.augmentation, recipe.lighting, recipe.per_pixel_mean) == ("scale-jitter", True, True)


def test_rates_scale_with_the_batch() -> None:
    options = TrainingOptions(arch="resnet50", batch_size=1024, schedule="step", milestones=(0.25, 0.5, 0.75))
    assert rates(options, (0, 37_499, 37_500, 75_000)) == pytest.approx([0.4, 0.4, 0.04, 0.004])


def test_a_plateau_is_a_stretch_without_gain() -> None:
    assert count_drops((), 2, 0.1) == 0
    assert count_drops((50, 40, 30, 20), 2, 0.1) == 0
    assert count_drops((50, 40, 40, 39.95), 2, 0.1) == 1, "39.95 is no gain of 0.1"
    assert count_drops((50, 40, 41, 39, 40, 40), 2, 0.1) == 1, "a gain starts the waiting anew"
    assert count_drops((50, 50, 50, 50, 50), 2, 0.1) == 2, "after a drop the waiting starts anew"
    schedule = Schedule(0.1, 256, 1000, shape="plateau", patience=2)
    assert schedule.at(0, 256, Observed(errors=(50, 50, 50))) == pytest.approx(0.01)
    assert schedule.at(900, 256, Observed(errors=(50, 40))) == pytest.approx(0.1)


def test_linear_warm_up_and_cosine() -> None:
    schedule = Schedule(0.4, 256, 1000, shape="cosine", warmup_images=100, warmup_start=0.0)
    assert [schedule.at(images, 256) for images in (0, 50, 1000)] == pytest.approx(
        [0.0, 0.2 * 0.5 * (1 + 0.98769), 0.0], abs=1e-4
    )


def test_modern_is_listed_by_its_differences() -> None:
    differing = {name for name in vars(IMAGENET) if getattr(IMAGENET, name) != getattr(MODERN, name)}
    assert differing == {
        "images", "shape", "warmup_images", "weight_decay", "decay", "per_pixel_mean", "augmentation", "lighting",
        "label_smoothing", "zero_last_gamma",
    }  # fmt: skip


def test_decay_covers_what_the_recipe_says() -> None:
    network = build_backbone("resnet20", 10)
    everything = sum(parameter.numel() for parameter in network.parameters())
    (group,) = make_optimizer(network, find_recipe("paper", "resnet20")).param_groups
    assert (sum(p.numel() for p in group["params"]), group["weight_decay"]) == (everything, 1e-4)
    weights, others = make_optimizer(network, find_recipe("modern", "resnet20")).param_groups
    assert (weights["weight_decay"], others["weight_decay"]) == (5e-5, 0.0)
    assert all(p.ndim == 1 for p in others["params"])
    assert sum(p.numel() for group in (weights, others) for p in group["params"]) == everything
    assert not group["nesterov"]


@pytest.mark.parametrize(("text", "seeds"), [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("0,2,5-6", (0, 2, 5, 6))])
def test_seeds_are_parsed(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "0,0", "3-1", "-1"])
def test_impossible_seeds_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "papr"}, "did you mean 'paper'"),
        ({"arch": "resnet21"}, "no network is named 'resnet21'"),
        ({"batch_size": 0}, "--batch-size must be positive"),
        ({"iterations": -1}, "--iterations must be positive"),
        ({"log_every": 0}, "--log-every must be positive"),
        ({"evaluate_every": -1}, "--evaluate-every"),
        ({"seed": -1}, "--seed must not be negative, not -1"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(TrainingOptions(**wrong))


def test_zeroed_gammas_make_blocks_identities() -> None:
    from backbones.pretraining.training import _zero_last_gammas

    network = build_backbone("resnet20", 10).eval()
    _zero_last_gammas(network)
    x = torch.rand(1, 16, 8, 8)
    assert torch.equal(network.stage("c2")(x), x), "the input is positive, so the last ReLU passes it"
