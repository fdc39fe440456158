"""The ground truth of a batch, padded to one shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchTargets:
    """What the ground truth of every batch can do; its fields are tensors, or None."""

    def to(self, device: torch.device) -> Self:
        """The same on a device, without waiting for the copy."""
        return self.each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same in page-locked memory (called by the data loader)."""
        return self.each(Tensor.pin_memory)

    def with_free_slots(self) -> Self:
        """The same, marked so that one compiled graph takes any number of slots, where there are such."""
        return self

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with every tensor changed."""
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: change(part) for name, part in parts.items() if part is not None})


@dataclass(frozen=True)
class Targets(BatchTargets):
    """Objects of B images, G slots each.

    Attributes:
        boxes: [B, G, 4] float32, pixels of the padded batch.
        labels: [B, G] int64 in 0..K-1.
        present: [B, G] bool, the slot holds an object to find.
        ignored: [B, G] bool, the slot holds a region where nothing is to be learned (a crowd, a difficult object).
        sizes: [B, 2] int64, (height, width) of the valid area.
        keys: [B] int64, the key of each image's random draws: a function of seed, step and image.
        masks: [B, G, M, M] uint8, each object's coverage (0 to 255) of the M x M cells of its box; None without masks.
    """

    boxes: Tensor
    labels: Tensor
    present: Tensor
    ignored: Tensor
    sizes: Tensor
    keys: Tensor
    masks: Tensor | None = None

    def with_free_slots(self) -> Targets:
        for part in (self.boxes, self.labels, self.present, self.ignored, self.masks):
            if part is not None:
                torch._dynamo.mark_dynamic(part, 1)
        return self


@dataclass(frozen=True)
class SegmentationTargets(BatchTargets):
    """Labels of B images.

    Attributes:
        labels: [B, H, W] uint8 in 0..K-1; 255 where nothing is to be learned, as in the padding.
        sizes: [B, 2] int64, (height, width) of the valid area.
    """

    labels: Tensor
    sizes: Tensor
