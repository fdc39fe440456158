"""What every backbone offers, whoever wrote it: the contract that heads and plug-ins rely on."""

from __future__ import annotations

from torch import Tensor, nn


class Backbone(nn.Module):
    """A classification network whose stages can be read as feature maps.

    Attributes:
        out_channels: channels of each feature map, by name ``c1``, ``c2``, ...
        out_strides: input pixels per feature-map pixel, by the same names.

    Stages are direct children in calling order, so that hosts which walk the children of a module find them.
    """

    out_channels: dict[str, int]
    out_strides: dict[str, int]

    def features(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """[B, 3, H, W] normalized images -> {"c1": [B, C1, H/s1, W/s1], ...}, shallowest first.

        Args:
            images: the batch.
            until: the last map that is wanted; deeper stages are not run.
        """
        raise NotImplementedError

    def stage(self, name: str) -> nn.Module:
        """The module that turns the preceding feature map into ``name`` (``conv5_x`` for ``c5``).

        Detectors with a per-region stage (conv5 in the C4 head) run it on pooled regions.
        """
        raise NotImplementedError

    def truncate(self, last: str) -> None:
        """Remove the stages after ``last``, which nobody will run."""
        names = list(self.out_channels)
        for name in names[names.index(last) + 1 :]:
            self.set_submodule(f"conv{name[1:]}_x", nn.Identity())
            del self.out_channels[name], self.out_strides[name]
