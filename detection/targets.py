"""The ground truth of a batch, padded to one shape."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Objects of B images, G slots each.

    Attributes:
        boxes: [B, G, 4] float32, pixels of the padded batch.
        labels: [B, G] int64 in 0..K-1.
        present: [B, G] bool, the slot holds an object to find.
        ignored: [B, G] bool, the slot holds a region where nothing is to be learned (a crowd, a difficult object).
        sizes: [B, 2] int64, (height, width) of the valid area.
        keys: [B] int64, the key of each image's random draws: a function of seed, step and image.
    """

    boxes: Tensor
    labels: Tensor
    present: Tensor
    ignored: Tensor
    sizes: Tensor
    keys: Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on a device, without waiting for the copy."""
        return Targets(*(getattr(self, item.name).to(device, non_blocking=True) for item in fields(self)))

    def pin_memory(self) -> Targets:
        """The same in page-locked memory (called by the data loader)."""
        return Targets(*(getattr(self, item.name).pin_memory() for item in fields(self)))
