"""The moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import nn

from backbones.running.training_state import WeightAverage


def model() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network[0].weight.requires_grad_(False)
    return network


def test_the_decay_climbs_and_what_learns_nothing_stays_out() -> None:
    network = model()
    average = WeightAverage(network, 0.3)
    assert set(average.state()["means"]) == {
        "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "2.bias",
    }  # fmt: skip
    expected = network[2].bias.detach().clone()
    for update in range(1, 6):
        with torch.no_grad():
            network[2].bias.add_(1)
        average.update()
        decay = min(0.3, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * network[2].bias.detach()
        torch.testing.assert_close(average.state()["means"]["2.bias"], expected)


def test_the_average_is_borrowed_and_given_back_also_after_errors() -> None:
    network = model()
    average = WeightAverage(network, 0.9)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        network[2].bias.add_(1)
    trained = network[2].bias.detach().clone()
    try:
        with average.applied():
            assert torch.equal(network[2].bias, before["2.bias"])
            raise RuntimeError
    except RuntimeError:
        pass
    assert torch.equal(network[2].bias, trained)


def test_averages_are_restored() -> None:
    network = model()
    average, again = WeightAverage(network, 0.9), WeightAverage(model(), 0.9)
    with torch.no_grad():
        network[2].bias.add_(1)
    average.update()
    again.restore(average.state())
    assert again.updates == 1
    for name, mean in average.state()["means"].items():
        assert torch.equal(again.state()["means"][name], mean)
