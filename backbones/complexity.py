"""Parameters and multiply-adds of a network (Table 1)."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PAPER_MULTIPLY_ADDS = {
    "plain18": 1.8e9,
    "resnet18": 1.8e9,
    "resnet18_a": 1.8e9,
    "plain34": 3.6e9,
    "resnet34": 3.6e9,
    "resnet34_a": 3.6e9,
    "resnet50": 3.8e9,
    "resnet101": 7.6e9,
    "resnet152": 11.3e9,
    "vgg16": 15.3e9,
    "vgg19": 19.6e9,
}
"""The FLOPs of Table 1 and section 3.3. The paper counts a multiply-add as one."""


def count_parameters(module: nn.Module) -> int:
    """All learnable numbers, batch normalization's weights and biases among them."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(module: nn.Module, size: int) -> int:
    """Multiply-adds for one image [1, 3, size, size]: half of what torch's counter calls FLOPs.

    Convolutions and matrix products count; normalization, pooling and activations do not.
    """
    training = module.training
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module.eval()(torch.zeros(1, 3, size, size))
    module.train(training)
    return int(counter.get_total_flops()) // 2


def fvcore_multiply_adds(module: nn.Module, size: int) -> int:
    """The same by fvcore, which adds batch normalization and pooling: a cross-check, a per cent higher."""
    import logging
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        training = module.training
        logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
        analysis = FlopCountAnalysis(module.eval(), torch.zeros(1, 3, size, size))
        total = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    module.train(training)
    return int(total)
