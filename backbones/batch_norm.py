"""Batch normalization that can be frozen, and folded into the convolution before it.

Appendix A of the paper computes the statistics once after pretraining and keeps them fixed while detectors
are trained. A fixed normalization is an affine map, so convolution and normalization become one convolution:
half the memory traffic of the pair, in training too, since gradients flow through the scaled weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class FrozenBatchNorm2d(nn.Module):
    """``(x - running_mean) / sqrt(running_var + eps) * weight + bias`` with nothing that learns or updates.

    The buffers bear the names of ``nn.BatchNorm2d``. [B, C, H, W] -> [B, C, H, W].
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The affine map as two vectors [C], in fp32 whatever the precision around it."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = (vector.to(x.dtype).reshape(1, -1, 1, 1) for vector in self.scale_and_shift())
        return x * scale + shift

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def convolve(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """``norm(conv(x))``, as a single convolution where ``norm`` is frozen.

    [B, C_in, H, W] -> [B, C_out, H', W'].
    """
    if not isinstance(norm, FrozenBatchNorm2d):
        normalized: Tensor = norm(conv(x))
        return normalized
    scale, shift = norm.scale_and_shift()
    weight = conv.weight * scale.reshape(-1, 1, 1, 1)
    bias = shift if conv.bias is None else shift + conv.bias * scale
    return functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def freeze_batch_norm(module: nn.Module) -> nn.Module:
    """Replace every ``nn.BatchNorm2d`` below ``module``, in place, by a frozen one with the same numbers.

    The names of parameters and buffers stay (``num_batches_tracked`` goes), ``.train()`` does not thaw them,
    and freezing twice changes nothing. Returns the module, or its replacement if it is itself a batch norm.
    """
    if isinstance(module, nn.BatchNorm2d):
        frozen = FrozenBatchNorm2d(module.num_features, module.eps)
        frozen.load_state_dict({name: value for name, value in module.state_dict().items() if name in frozen._buffers})
        return frozen.to(module.weight.device)
    for name, child in module.named_children():
        setattr(module, name, freeze_batch_norm(child))
    return module


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Inside, batch normalization goes by the batch as in training, and its running statistics stay as they are."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Bake every normalization that follows a convolution into that convolution's weight and bias, in place.

    For inference: after it no normalization is left below a module that names its pairs in
    ``convolution_pairs()``, nor behind a convolution in a sequence. The exporters rely on it, since a folded network
    has one dtype throughout.
    """
    for owner in list(module.modules()):
        for conv_name, norm_name in _pairs(owner):
            norm = freeze_batch_norm(getattr(owner, norm_name))
            if isinstance(norm, FrozenBatchNorm2d):
                setattr(owner, conv_name, _folded(getattr(owner, conv_name), norm))
                setattr(owner, norm_name, nn.Identity())
    return module


def _pairs(owner: nn.Module) -> list[tuple[str, str]]:
    """The names of each convolution among the children and of the normalization behind it."""
    named = getattr(owner, "convolution_pairs", None)
    if named is not None:
        return list(named())
    if not isinstance(owner, nn.Sequential):
        return []
    return [
        (before, after)
        for (before, conv), (after, norm) in pairwise(owner.named_children())
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d)
    ]


@torch.no_grad()
def _folded(conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> nn.Conv2d:
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    scale, shift = norm.scale_and_shift()
    folded.weight.copy_(conv.weight * scale.reshape(-1, 1, 1, 1))
    assert folded.bias is not None
    folded.bias.copy_(shift if conv.bias is None else shift + conv.bias * scale)
    return folded.requires_grad_(conv.weight.requires_grad)
