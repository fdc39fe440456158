"""Deep networks in little memory: the activations inside a block are computed again on the way back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.batch_norm import statistics_kept
from backbones.blocks import BasicBlock, Bottleneck


def checkpoint_blocks(network: nn.Module) -> nn.Module:
    """Keep only the inputs of blocks during the forward pass, in place. Names and outputs stay as they are.

    Batch normalization updates its running statistics in the first pass only. Returns the network.
    """
    for block in network.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            block.forward = partial(_checkpointed, block, block.forward)  # type: ignore[method-assign]
    return network


def _checkpointed(block: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_kept(block)

    out: Tensor = checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return out
