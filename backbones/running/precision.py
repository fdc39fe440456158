"""Device and floating-point precision of a run. torch is imported where one is chosen; None is no device of torch's."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.environment import processor_instructions

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "bf16", "fp16")

logger = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU of this process where there is one, else the CPU.

    Raises:
        InputError: a GPU is asked for and torch sees none, or the name is no device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: not a device; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: torch sees no GPU; use --device cpu")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", distributed.local_rank())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def autocast(device: torch.device | None, precision: str) -> AbstractContextManager[object]:
    """Convolutions and matrix products in ``precision``; parameters, losses and box arithmetic stay fp32."""
    if device is None:
        return nullcontext()
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


_INSTRUCTIONS = {
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "asimdhp"),
}


def cpu_has_instructions(precision: str) -> bool:
    """Whether this processor multiplies such numbers itself; yes where the system does not tell."""
    found = processor_instructions()
    return precision == "fp32" or found is None or any(name in found for name in _INSTRUCTIONS[precision])


def warn_of_emulation(device: torch.device | None, precision: str) -> None:
    """One line for who chose a lower precision to save time and will lose time by it."""
    if device is not None and device.type == "cpu" and not cpu_has_instructions(precision):
        logger.warning("--precision %s: this processor emulates it, fp32 is faster here", precision)


def gradient_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """fp16 gradients underflow without scaling; for the other precisions the scaler does nothing."""
    import torch

    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
