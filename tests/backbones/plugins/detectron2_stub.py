"""What detectron2 documents of its backbones, as modules: enough to hold our plug-in to its contract.

Written after ``detectron2/modeling/backbone/{backbone,build,fpn}.py``; registry and config are fvcore's, as there.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from types import ModuleType
from typing import Any

from fvcore.common.config import CfgNode
from fvcore.common.registry import Registry
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class ShapeSpec:
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


class Backbone(nn.Module, metaclass=ABCMeta):
    @abstractmethod
    def forward(self) -> dict[str, Tensor]: ...

    @property
    def size_divisibility(self) -> int:
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {}

    @abstractmethod
    def output_shape(self) -> dict[str, ShapeSpec]: ...


class LastLevelMaxPool(nn.Module):
    num_levels = 1
    in_feature = "p5"

    def forward(self, x: Tensor) -> list[Tensor]:
        return [functional.max_pool2d(x, kernel_size=1, stride=2)]


class FPN(Backbone):
    def __init__(
        self,
        bottom_up: Backbone,
        in_features: list[str],
        out_channels: int,
        norm: str = "",
        top_block: LastLevelMaxPool | None = None,
        fuse_type: str = "sum",
    ) -> None:
        super().__init__()
        assert isinstance(bottom_up, Backbone) and not norm and fuse_type == "sum" and top_block
        shapes = [bottom_up.output_shape()[name] for name in in_features]
        strides = [shape.stride for shape in shapes]
        assert all(fine * 2 == coarse for fine, coarse in pairwise(strides))
        self.bottom_up = bottom_up
        self.in_features = in_features
        self.lateral = nn.ModuleList(nn.Conv2d(shape.channels, out_channels, 1) for shape in shapes)
        self.top_block = top_block
        names = [f"p{int(log2(stride))}" for stride in strides]
        self._shapes = {name: ShapeSpec(out_channels, stride=s) for name, s in zip(names, strides, strict=True)}
        self.size = strides[-1]

    @property
    def size_divisibility(self) -> int:
        return self.size

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.bottom_up(x)
        levels = [lateral(maps[name]) for lateral, name in zip(self.lateral, self.in_features, strict=True)]
        for index in range(len(levels) - 2, -1, -1):
            levels[index] = levels[index] + functional.interpolate(levels[index + 1], scale_factor=2.0)
        return {**dict(zip(self._shapes, levels, strict=True)), "p6": self.top_block(levels[-1])[0]}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self._shapes


def modules() -> dict[str, ModuleType]:
    """Fresh modules, by their full names."""
    registry = Registry("BACKBONE")

    def build_backbone(cfg: Any, input_shape: ShapeSpec | None = None) -> Backbone:
        shape = input_shape or ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
        backbone = registry.get(cfg.MODEL.BACKBONE.NAME)(cfg, shape)
        assert isinstance(backbone, Backbone)
        return backbone

    contents: dict[str, dict[str, Any]] = {
        "detectron2": {},
        "detectron2.layers": {"ShapeSpec": ShapeSpec},
        "detectron2.config": {"CfgNode": CfgNode, "get_cfg": default_config},
        "detectron2.modeling": {
            "Backbone": Backbone, "BACKBONE_REGISTRY": registry, "build_backbone": build_backbone
        },
        "detectron2.modeling.backbone": {},
        "detectron2.modeling.backbone.fpn": {"FPN": FPN, "LastLevelMaxPool": LastLevelMaxPool},
    }  # fmt: skip
    made = {}
    for name, members in contents.items():
        made[name] = ModuleType(name)
        made[name].__path__ = []  # type: ignore[attr-defined]
        vars(made[name]).update(members)
    return made


def default_config() -> CfgNode:
    """The keys of detectron2's defaults that backbones read, with their values."""
    cfg = CfgNode()
    cfg.INPUT = CfgNode({"FORMAT": "BGR"})
    cfg.MODEL = CfgNode({"PIXEL_MEAN": [103.530, 116.280, 123.675], "PIXEL_STD": [1.0, 1.0, 1.0]})
    cfg.MODEL.BACKBONE = CfgNode({"NAME": "build_resnet_backbone", "FREEZE_AT": 2})
    cfg.MODEL.FPN = CfgNode({"IN_FEATURES": [], "OUT_CHANNELS": 256, "NORM": "", "FUSE_TYPE": "sum"})
    return cfg
