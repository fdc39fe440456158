"""The three ways to make a step are one recipe."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backbones.building import build_backbone
from backbones.data.arrays import LabelledImages
from backbones.data.digits import digits_classification
from backbones.data.order import EndlessOrder
from backbones.normalization import Normalize
from backbones.pretraining import graph_steps as graph
from backbones.pretraining.data import measure_convention
from backbones.pretraining.graph_steps import GraphSteps, ImagePool
from backbones.pretraining.options import TrainingOptions
from backbones.pretraining.recipes import find_recipe
from backbones.pretraining.steps import (
    BatchPlan,
    DeviceData,
    EagerSteps,
    Learner,
    checkpoint_blocks,
    logits_of,
    make_optimizer,
)
from backbones.running.precision import gradient_scaler
from tests.backbones.pretraining.plain_loop import train_plainly

RECIPE = find_recipe("paper", "resnet20")
CPU = torch.device("cpu")


def few(count: int = 64, mirrored: bool = True) -> LabelledImages:
    data = digits_classification("val")
    return LabelledImages(data.images[:count], data.labels[:count], data.classes, mirrored)


def make_steps(kind: str, data: LabelledImages, plan: BatchPlan, precision: str = "fp32") -> EagerSteps | GraphSteps:
    """Steps on a fresh ResNet-20."""
    torch.manual_seed(plan.seed)
    network = build_backbone("resnet20", 10).train()
    network = network.to(memory_format=torch.channels_last)
    learner = Learner(network, make_optimizer(network, RECIPE), gradient_scaler(CPU, precision), precision)
    normalize = Normalize(*measure_convention(data, RECIPE, TrainingOptions()))
    device_data = DeviceData.of(data, CPU)
    if kind == "eager":
        return EagerSteps(learner, normalize, device_data, plan)
    return GraphSteps(learner, ImagePool(device_data, normalize), plan)


def losses(steps: EagerSteps | GraphSteps, count: int, rate: float = 0.01) -> list[float]:
    return [float(steps(step, rate)[0]["cross_entropy"]) for step in steps.batches(0, count)]


def test_the_graph_follows_the_same_batches_as_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "AHEAD", 64)  # order and keys are sent four times
    data, plan = few(), BatchPlan(EndlessOrder(64, 3), 4, 3)
    eager, fast = (losses(make_steps(kind, data, plan), 200) for kind in ("eager", "graph"))
    assert fast == pytest.approx(eager, rel=1e-3, abs=1e-4)
    assert eager[-1] != eager[0]


def test_the_reference_is_the_plain_loop() -> None:
    data, plan = few(48), BatchPlan(EndlessOrder(48, 1), 8, 1)
    _, mean, expected, _ = train_plainly("resnet20", data, plan, 4, 1e-3)
    steps = make_steps("eager", data, plan)
    assert losses(steps, 4, 1e-3) == pytest.approx(expected, rel=2e-3), "rounding differs, and grows by the step"
    assert np.allclose(steps.normalize.mean.permute(1, 2, 0), mean)


def test_a_pool_in_bf16_trains_as_autocast_does() -> None:
    data, plan = few(32), BatchPlan(EndlessOrder(32, 1), 8, 1)
    eager, fast = (losses(make_steps(kind, data, plan, "bf16"), 3) for kind in ("eager", "graph"))
    assert fast == pytest.approx(eager, rel=2e-2)


def test_order_meets_every_image_before_any_again() -> None:
    order = EndlessOrder(50, 0)
    seen = np.concatenate([order.at(step * 8, 8) for step in range(25)])
    for epoch in range(4):
        assert sorted(seen[epoch * 50 : (epoch + 1) * 50]) == list(range(50))
    assert not np.array_equal(seen[:50], seen[50:100])


def test_logits_do_not_depend_on_the_batch() -> None:
    data = few(20)
    steps = make_steps("eager", data, BatchPlan(EndlessOrder(20, 0), 4, 0))
    pixels = steps.data.pixels
    model = torch.nn.Sequential(steps.normalize, steps.learner.network)
    whole, parts = (logits_of(model, pixels.split(size), pixels.device, "fp32") for size in (2000, 7))
    assert torch.allclose(whole, parts, atol=1e-4)
    assert model.training


def test_checkpointed_blocks_give_the_same_gradients_and_statistics() -> None:
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    networks = []
    for wrapped in (False, True):
        torch.manual_seed(0)
        network = build_backbone("resnet20", 10).train()
        if wrapped:
            checkpoint_blocks(network)
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        networks.append(network)
    plain, thrifty = networks
    assert plain.state_dict().keys() == thrifty.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, thrifty.state_dict()[name]), name
    for one, other in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)
