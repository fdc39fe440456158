"""Models for timm. Importing this module registers ``shortcut_NAME`` for every network.

    import backbones.plugins.timm
    timm.create_model("shortcut_resnet50", num_classes=10)
    timm.create_model("shortcut_resnet50", features_only=True, out_indices=(1, 2, 3, 4))
    timm.create_model("shortcut_resnet50", pretrained=True, pretrained_cfg_overlay={"file": "runs/resnet50"})

timm counts maps from our c1, so index 1 is c2 (stride 4).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.contract import Backbone
from backbones.convention import IMAGENET
from backbones.errors import InputError
from backbones.plugins import build_trunk, from_rgb, import_host, unit_statistics
from backbones.variants import VARIANTS, ResNetVariant, find_variant, list_backbones
from backbones.weights.published import TORCHVISION

_INSTALL = "pip install timm"
_timm = import_host("timm", _INSTALL)
_layers = import_host("timm.layers", _INSTALL)
_models = import_host("timm.models", _INSTALL)
_take_indices = import_host("timm.models._features", _INSTALL).feature_take_indices

logger = logging.getLogger("shortcut")
default_cfgs: dict[str, dict[str, Any]] = {}
"""timm finds the configuration of a model under this name in the module of its entry point."""


class ShortcutModel(nn.Module):
    """One of our networks with timm's methods and timm's head (pooling and one linear layer).

    RGB [B, 3, H, W], normalized -> logits [B, num_classes].

    Args:
        name: one of ``list_backbones()``.
        num_classes: size of the classifier; 0 leaves it out.
        in_chans: 3.
        global_pool: timm's name of the pooling; empty leaves it out.
        drop_rate: dropout before the classifier.

    Raises:
        InputError: nobody offers the network, or other than three channels.
    """

    pretrained_cfg: dict[str, Any]  # timm sets it

    def __init__(
        self, name: str, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        if in_chans != 3:
            raise InputError(f"in_chans: {in_chans} channels; {name} takes 3")
        self.network, self.convention = build_trunk(name)
        self.backbone = name
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.feature_info = _feature_info(self.network)
        self.maps = list(self.network.out_channels)
        self.num_features = self.head_hidden_size = self.network.out_channels[self.maps[-1]]
        self.head = _layers.ClassifierHead(self.num_features, num_classes, global_pool, drop_rate)

    def forward_features(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> the last map [B, C, h, w]."""
        *_, last = self.network.features(from_rgb(images, self.convention)).values()
        return last

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, C, h, w] -> logits [B, num_classes], or what the classifier would see."""
        logits: Tensor = self.head(features, pre_logits=pre_logits)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The maps that ``indices`` choose (timm's rules), and before them the last map unless ``intermediates_only``.

        ``norm`` means nothing here. Stages after the last chosen map are run only for the last map, and not
        with ``stop_early``.
        """
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt: {output_fmt} is not offered; the maps are NCHW")
        chosen, deepest = _take_indices(len(self.maps), indices)
        until = self.maps[deepest] if stop_early or intermediates_only else None
        found = list(self.network.features(from_rgb(images, self.convention), until=until).values())
        intermediates = [found[index] for index in sorted(chosen)]
        return intermediates if intermediates_only else (found[-1], intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last of the chosen maps, and the head. Returns the indices, none negative."""
        chosen: list[int]
        chosen, deepest = _take_indices(len(self.maps), indices)
        shortened = deepest < len(self.maps) - 1
        if shortened:
            self.network.truncate(self.maps[deepest])
            self.num_features = self.head_hidden_size = self.network.out_channels[self.maps[deepest]]
        if prune_head or shortened:
            self.reset_classifier(0, "")
        return chosen

    def get_classifier(self) -> nn.Module:
        """The linear layer."""
        layer: nn.Module = self.head.fc
        return layer

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier; 0 leaves it out."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, in_features=self.num_features)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """timm calls it on every model."""
        if enable:
            raise InputError(f"{self.backbone}: gradient checkpointing is not offered in timm")

    def load_pretrained(self, source: str | Path) -> None:
        """Load what ``read_weights`` takes, strictly, and take over its input convention.

        The classifier is loaded where the file's has as many classes; else it stays as it is, for fine-tuning.

        Raises:
            InputError: the file does not fit, or its classifier is more than one linear layer.
        """
        from backbones.weights.loading import load_weights, read_weights

        weights = read_weights(source)
        self.convention = load_weights(self.network, weights).convention
        mean, std = unit_statistics(self.convention)
        self.pretrained_cfg.update(mean=tuple(mean), std=tuple(std))
        if not self.num_classes:
            return
        if "fc.weight" not in weights.tensors:
            raise InputError(f"{weights.origin}: its classifier is not one linear layer; use num_classes=0")
        if weights.tensors["fc.bias"].shape != self.head.fc.bias.shape:
            classes = len(weights.tensors["fc.bias"])
            logger.info("weights: classifier of %d classes left unread, %d are wanted", classes, self.num_classes)
            return
        with torch.no_grad():
            self.head.fc.weight.copy_(weights.tensors["fc.weight"])
            self.head.fc.bias.copy_(weights.tensors["fc.bias"])


def register(name: str) -> str:
    """Add the model ``shortcut_NAME`` to timm, unless it is there.

    Networks that are registered in ours after this module was imported need it.

    Args:
        name: one of ``list_backbones()``.

    Returns:
        The model's name: characters that Python's names don't have become underscores.

    Raises:
        InputError: nobody offers the network.
    """
    find_variant(name)
    return _add(name)


def _add(name: str) -> str:
    model = re.sub(r"\W", "_", f"shortcut_{name}")
    if not _timm.is_model(model):
        default_cfgs[model] = _default_cfg(name)
        _models.register_model(_entry_point(name, model))
    return model


def _entry_point(name: str, model: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **settings: Any) -> nn.Module:
        overlay = {"custom_load": True, **(settings.pop("pretrained_cfg_overlay", None) or {})}
        if settings.get("features_only"):
            settings["num_classes"] = 0
        network: nn.Module = _models.build_model_with_cfg(
            ShortcutModel,
            model,
            pretrained,
            pretrained_cfg_overlay=overlay,  # else timm reads files itself and does not know our names
            feature_cfg={"feature_cls": "getter", "out_indices": None},  # all maps, however many there are
            name=name,
            **settings,
        )
        return network

    create.__name__ = create.__qualname__ = model
    create.__doc__ = f"Our ``{name}``."
    return create


def _default_cfg(name: str) -> dict[str, Any]:
    variant = VARIANTS.get(name)
    side = 32 if isinstance(variant, ResNetVariant) and variant.small_input else 224
    mean, std = unit_statistics(IMAGENET)
    return {
        "file": f"torchvision://{name}" if name in TORCHVISION else None,
        "custom_load": True,
        "input_size": (3, side, side),
        "crop_pct": 0.875 if side == 224 else 1.0,
        "interpolation": "bilinear",
        "mean": tuple(mean),
        "std": tuple(std),
        "num_classes": 1000 if side == 224 else 10,
        "first_conv": None,
        "classifier": "head.fc",
    }


def _feature_info(network: Backbone) -> list[dict[str, Any]]:
    """Channels, stride and module of each map. The stem is the first child, whatever its name."""
    places = {id(module): f"network.{name}" for name, module in network.named_children()}
    stem = next(iter(places.values()))
    names = list(network.out_channels)
    modules = [stem, *(places.get(id(network.stage(name)), f"network.{name}") for name in names[1:])]
    return [
        {"num_chs": network.out_channels[name], "reduction": network.out_strides[name], "module": module}
        for name, module in zip(names, modules, strict=True)
    ]


for _name in list_backbones():
    _add(_name)
