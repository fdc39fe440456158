"""Batch-norm statistics of a trained network, computed anew over a sample of its training set (appendix A).

Training leaves moving averages behind: of the last few dozen batches, each seen by a network that was still changing.
Before detectors freeze the layers, the paper computes means and variances of the finished network on the ImageNet
training set. Weights stay as they are.

**Exact, layer by layer** (the default). A layer's mean and variance are those of its input over all values of all
images, while the layers before it already use their new statistics: what one pass over the whole sample as a single
batch would give, whatever the real batches are. In evaluation the network then does to the sample what it would do in
training with the sample as one batch. The variance is the one about the common mean (law of total variance: the mean
of the batches' variances plus the variance of their means), over n values, as batch normalization computes it in
training; torch's moving averages are over n - 1, which differs by a millionth at this size. It takes one pass for each
batch norm, each pass as deep as that layer: for a network of L of them about the time of L / 2 whole passes.

**At once** (``exact=False``) takes one pass: every layer normalizes each batch by the batch's own statistics, as in
training. The numbers are combined in the same way, but layers after the first depend, slightly, on the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from backbones.batch_norm import FrozenBatchNorm2d, statistics_kept
from backbones.errors import InputError

_NO_IMAGES = "there are no images to compute statistics of"


class Moments:
    """Mean and variance of each channel over any number of batches, combined in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(())
        self._squares: Tensor = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Take in [B, C, H, W]."""
        values = x if x.dtype == torch.float64 else x.float()
        variance, mean = (part.double() for part in torch.var_mean(values, (0, 2, 3), correction=0))
        count = x.shape[0] * x.shape[2] * x.shape[3]
        if not self.count:
            self.count, self.mean, self._squares = count, mean, variance * count
            return
        total = self.count + count
        difference = mean - self.mean
        self.mean = self.mean + difference * (count / total)
        self._squares = self._squares + variance * count + difference**2 * (self.count * count / total)
        self.count = total

    def variance(self) -> Tensor:
        """About the common mean, over n. [C]"""
        return self._squares / self.count


class _Reached(Exception):
    """The layer of interest has its input; what follows need not run."""


@torch.no_grad()
def recompute_statistics(
    network: nn.Module,
    batches: Iterable[Tensor],
    exact: bool = True,
    advance: Callable[[int], object] = lambda batches: None,
) -> int:
    """Set ``running_mean`` and ``running_var`` of every batch norm, in place; everything else runs as in evaluation.

    Args:
        network: takes a batch, [B, ...]; its batch norms may be frozen (``FrozenBatchNorm2d``), and stay so.
        batches: what it takes; on its device. Exact statistics go through them many times, so they must not be an
            iterator that ends.
        exact: layer by layer, or at once, as said above.
        advance: called with 1 after each batch of each pass.

    Returns:
        How many images each statistic is of.

    Raises:
        InputError: the network has no batch norm (folded, or VGG), or there are no batches.
    """
    if exact and isinstance(batches, Iterator):
        raise InputError("exact statistics need batches that can be gone through again: a list, not an iterator")
    modes = [(module, module.training) for module in network.modules()]
    try:
        with _thawed(network):
            norms = _norms_of(network)
            if not norms:
                raise InputError("the network has no batch normalization whose statistics could be computed")
            network.eval()
            compute = _layer_by_layer if exact else _at_once
            return compute(network, norms, batches, advance)
    finally:
        for module, training in modes:
            module.training = training


def passes_over(network: nn.Module, exact: bool = True) -> int:
    """How often ``recompute_statistics`` goes through the batches."""
    kinds = (nn.BatchNorm2d, FrozenBatchNorm2d)
    return sum(isinstance(module, kinds) for module in network.modules()) if exact else 1


def _layer_by_layer(
    network: nn.Module, norms: list[nn.BatchNorm2d], batches: Iterable[Tensor], advance: Callable[[int], object]
) -> int:
    images = 0
    for norm in _in_calling_order(network, norms, batches):
        moments, images = Moments(), 0

        def look(_: nn.Module, inputs: tuple[Tensor], moments: Moments = moments) -> None:
            moments.add(inputs[0])
            raise _Reached

        handle = norm.register_forward_pre_hook(look)
        try:
            for batch in batches:
                with suppress(_Reached):
                    network(batch)
                images += len(batch)
                advance(1)
        finally:
            handle.remove()
        _set(norm, moments)
    return images


def _in_calling_order(
    network: nn.Module, norms: list[nn.BatchNorm2d], batches: Iterable[Tensor]
) -> list[nn.BatchNorm2d]:
    """The norms that the network uses, each after those that its input depends on."""
    first = next(iter(batches), None)
    if first is None:
        raise InputError(_NO_IMAGES)
    called: list[nn.BatchNorm2d] = []

    def note(norm: nn.Module, _: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        called.append(norm)

    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        network(first[:1])
    finally:
        for handle in handles:
            handle.remove()
    if len(set(called)) != len(called):
        raise InputError("a batch norm is used more than once in this network; use exact=False")
    return called


def _at_once(
    network: nn.Module, norms: list[nn.BatchNorm2d], batches: Iterable[Tensor], advance: Callable[[int], object]
) -> int:
    moments = {norm: Moments() for norm in norms}
    images = 0

    def look(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        moments[norm].add(inputs[0])  # type: ignore[index]

    handles = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        with statistics_kept(network):
            for norm in norms:
                norm.train()
            for batch in batches:
                network(batch)
                images += len(batch)
                advance(1)
    finally:
        for handle in handles:
            handle.remove()
    if not images:
        raise InputError(_NO_IMAGES)
    for norm in norms:
        _set(norm, moments[norm])
    return images


def _set(norm: nn.BatchNorm2d, moments: Moments) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(moments.mean)
    norm.running_var.copy_(moments.variance())


def _norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.track_running_stats]


@contextmanager
def _thawed(network: nn.Module) -> Iterator[None]:
    """Free norms in the place of frozen ones; at the end these are back, with the statistics that those then have."""
    frozen = {name: module for name, module in network.named_modules() if isinstance(module, FrozenBatchNorm2d)}
    free = {name: _thaw(module) for name, module in frozen.items()}
    for name, norm in free.items():
        network.set_submodule(name, norm)
    try:
        yield
    finally:
        for name, module in frozen.items():
            _set_frozen(module, free[name])
            network.set_submodule(name, module)


def _thaw(frozen: FrozenBatchNorm2d) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(frozen.weight), frozen.eps).to(frozen.weight)
    norm.load_state_dict(frozen.state_dict(), strict=False)
    return norm


def _set_frozen(frozen: FrozenBatchNorm2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    frozen.running_mean.copy_(norm.running_mean)
    frozen.running_var.copy_(norm.running_var)
