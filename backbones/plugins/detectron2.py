"""Backbones for detectron2. Importing this module registers ``build_shortcut_backbone`` and, with a pyramid,
``build_shortcut_fpn_backbone`` in its ``BACKBONE_REGISTRY``.

    cfg = get_cfg()
    add_shortcut_config(cfg)
    cfg.merge_from_file("mask_rcnn.yaml")       # MODEL.BACKBONE.NAME: build_shortcut_fpn_backbone, MODEL.SHORTCUT...
    set_input_convention(cfg)                   # channel order, mean and deviation of the weights

Maps bear detectron2's names: ``stem`` is our c1, ``res2`` our c2, ...
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from backbones.batch_norm import freeze_batch_norm
from backbones.contract import Backbone
from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.freezing import freeze_stages
from backbones.plugins import build_trunk, check_maps, import_host

_INSTALL = "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2"
_modeling = import_host("detectron2.modeling", _INSTALL)
_layers = import_host("detectron2.layers", _INSTALL)
_config = import_host("detectron2.config", _INSTALL)


def add_shortcut_config(cfg: Any) -> None:
    """Add the keys ``MODEL.SHORTCUT.*`` with their defaults to a detectron2 config.

    NAME is one of ``list_backbones()``; OUT_FEATURES are the maps that heads may read; WEIGHTS is what
    ``read_weights`` takes, or empty; NORM is FrozenBN or BN. ``MODEL.BACKBONE.FREEZE_AT`` is detectron2's own:
    1 freezes the stem, 2 also res2, ...
    """
    cfg.MODEL.SHORTCUT = _config.CfgNode()
    cfg.MODEL.SHORTCUT.NAME = "resnet50"
    cfg.MODEL.SHORTCUT.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.SHORTCUT.WEIGHTS = ""
    cfg.MODEL.SHORTCUT.NORM = "FrozenBN"


def set_input_convention(cfg: Any) -> None:
    """Set INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD to what ``MODEL.SHORTCUT.WEIGHTS`` expects."""
    from backbones.weights.loading import read_weights

    if cfg.MODEL.SHORTCUT.WEIGHTS:
        convention = read_weights(cfg.MODEL.SHORTCUT.WEIGHTS).convention
        cfg.INPUT.FORMAT = convention.channels
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = list(convention.mean), list(convention.std)


_HostBackbone: Any = _modeling.Backbone  # its builders assert that a backbone is an instance of it


class ShortcutBackbone(_HostBackbone):  # type: ignore[misc]
    """[B, 3, H, W], normalized -> {"res2": [B, C, H/4, W/4], ...}. Any height and width will do.

    Args:
        network: from ``build_backbone``.
        out_features: detectron2's names of the maps to return.
    """

    def __init__(self, network: Backbone, out_features: list[str]) -> None:
        super().__init__()
        self.network = network
        ours = {_detectron2_name(name): name for name in network.out_channels}
        self._out_features = [name for name in ours if name in out_features]
        self._out_feature_channels = {theirs: network.out_channels[name] for theirs, name in ours.items()}
        self._out_feature_strides = {theirs: network.out_strides[name] for theirs, name in ours.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = {_detectron2_name(name): map_ for name, map_ in self.network.features(images).items()}
        return {name: found[name] for name in self._out_features}

    def output_shape(self) -> dict[str, Any]:
        return {
            name: _layers.ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }


@_modeling.BACKBONE_REGISTRY.register()  # type: ignore[untyped-decorator]
def build_shortcut_backbone(cfg: Any, input_shape: Any) -> ShortcutBackbone:
    """The network that ``MODEL.SHORTCUT`` names.

    Raises:
        InputError: unknown names, weights that do not fit, or an input convention that is not theirs.
    """
    ours = cfg.MODEL.SHORTCUT
    if input_shape.channels != 3:
        raise InputError(f"MODEL.PIXEL_MEAN: {input_shape.channels} channels; our networks take 3")
    if ours.NORM not in ("FrozenBN", "BN"):
        raise InputError(f"MODEL.SHORTCUT.NORM: {ours.NORM!r} is not known; use FrozenBN or BN")
    network, convention = build_trunk(ours.NAME, ours.WEIGHTS or None)
    if ours.WEIGHTS:
        _check_input(cfg, convention)
    names = {_detectron2_name(name): name for name in network.out_channels}
    check_maps(ours.NAME, ours.OUT_FEATURES, names)
    network.truncate([name for theirs, name in names.items() if theirs in ours.OUT_FEATURES][-1])
    freeze_stages(network, min(cfg.MODEL.BACKBONE.FREEZE_AT, len(network.out_channels)))
    if ours.NORM == "FrozenBN":
        freeze_batch_norm(network)
    return ShortcutBackbone(network, list(ours.OUT_FEATURES))


@_modeling.BACKBONE_REGISTRY.register()  # type: ignore[untyped-decorator]
def build_shortcut_fpn_backbone(cfg: Any, input_shape: Any) -> Any:
    """The same network under detectron2's feature pyramid, as ``MODEL.FPN`` says, with p6 by max pooling."""
    fpn = import_host("detectron2.modeling.backbone.fpn", _INSTALL)
    return fpn.FPN(
        bottom_up=build_shortcut_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=fpn.LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def _detectron2_name(name: str) -> str:
    return "stem" if name == "c1" else f"res{name.removeprefix('c')}"


def _check_input(cfg: Any, convention: InputConvention) -> None:
    """detectron2's default input is BGR over a deviation of 1: for other weights than its own, silently wrong."""
    wanted = (convention.channels, list(convention.mean), list(convention.std))
    if (cfg.INPUT.FORMAT, list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD)) != wanted:
        raise InputError(
            f"{cfg.MODEL.SHORTCUT.WEIGHTS}: expects INPUT.FORMAT {wanted[0]}, MODEL.PIXEL_MEAN {wanted[1]} and "
            f"MODEL.PIXEL_STD {wanted[2]}, and the config says otherwise; set_input_convention(cfg) sets them"
        )
