"""Anchors: the reference boxes of the region proposal network (Ren et al. 2015, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detection.settings import AnchorSettings


class AnchorGrid(nn.Module):
    """The same few boxes around every position of each feature level.

    Args:
        settings: sizes of each level, and ratios.
        strides: pixels between neighbouring positions, one for each level.
    """

    def __init__(self, settings: AnchorSettings, strides: Sequence[int]) -> None:
        super().__init__()
        assert len(settings.sizes) == len(strides)
        self.strides = tuple(strides)
        self.whole_strides = settings.whole_strides
        for level, sizes in enumerate(settings.sizes):
            self.register_buffer(
                f"cell{level}", cell_anchors(sizes, settings.ratios, settings.rounded), persistent=False
            )

    @property
    def per_position(self) -> int:
        """Anchors at each position."""
        return len(self.get_buffer("cell0"))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature levels [B, C, h, w] -> for each level [h * w * A, 4], rows first, then columns, then anchors."""
        levels = []
        sides = [side * self.strides[0] for side in features[0].shape[-2:]]
        for level, (feature, stride) in enumerate(zip(features, self.strides, strict=True)):
            cell = self.get_buffer(f"cell{level}")
            height, width = feature.shape[-2:]
            apart = (sides[0] // height, sides[1] // width) if self.whole_strides else (stride, stride)
            y = torch.arange(height, device=cell.device) * apart[0]
            x = torch.arange(width, device=cell.device) * apart[1]
            y, x = y[:, None].expand(height, width), x[None].expand(height, width)
            corners = torch.stack((x, y, x, y), -1).to(cell.dtype)
            levels.append((corners[:, :, None] + cell).reshape(-1, 4))
        return levels

    def identities(self, features: Sequence[Tensor]) -> Tensor:
        """A number for each anchor that depends on its place alone, not on the size of the padded batch. [N] int64."""
        numbers = []
        for level, feature in enumerate(features):
            height, width = feature.shape[-2:]
            y = torch.arange(height, device=feature.device)[:, None, None]
            x = torch.arange(width, device=feature.device)[:, None]
            anchor = torch.arange(self.per_position, device=feature.device)
            numbers.append((((level << 12 | y) << 12 | x) << 5 | anchor).reshape(-1))
        return torch.cat(numbers)


def cell_anchors(sizes: Sequence[int], ratios: Sequence[float], rounded: bool = True) -> Tensor:
    """Boxes around the origin, ratios outermost; torchvision rounds them to whole pixels. [A, 4]."""
    roots = torch.tensor(ratios).sqrt()
    heights = (roots[:, None] * torch.tensor(sizes)[None]).reshape(-1)
    widths = (torch.tensor(sizes)[None] / roots[:, None]).reshape(-1)
    cells = torch.stack((-widths, -heights, widths, heights), 1) / 2
    return cells.round() if rounded else cells
