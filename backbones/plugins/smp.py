"""Encoders for segmentation_models_pytorch. Importing this module registers ``shortcut-NAME`` for every network.

    from backbones.plugins.smp import register
    model = smp.Unet("shortcut-resnet50", encoder_weights=None, classes=21)
    model = smp.Unet(register("resnet50", weights="runs/resnet50"), encoder_weights=None, classes=21)

``encoder_weights`` stays None: that argument fetches smp's own files from a model hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.plugins import build_trunk, deepest_at_each_stride, from_rgb, import_host, unit_statistics
from backbones.variants import find_variant, list_backbones

_INSTALL = "pip install segmentation-models-pytorch"
_encoders = import_host("segmentation_models_pytorch.encoders", _INSTALL)
_EncoderMixin: Any = import_host("segmentation_models_pytorch.encoders._base", _INSTALL).EncoderMixin


class ShortcutEncoder(nn.Module, _EncoderMixin):  # type: ignore[misc]
    """RGB [B, 3, H, W], normalized -> [images, map at stride 2, at stride 4, ..., at stride 2 ** depth].

    Where the network has no map at a stride, an empty one [B, 0, h, w] stands in its place, as in smp's own
    encoders for transformers.

    Args:
        name: one of ``list_backbones()``.
        weights: what ``read_weights`` takes; None leaves the network freshly initialized.
        depth: the number of halvings; later stages are removed.
        output_stride: 32, or 16 or 8 with dilated stages.

    Raises:
        InputError: unknown names, weights that do not fit, or a depth that the network does not reach.
    """

    _is_torch_scriptable = False

    def __init__(self, name: str, weights: str | Path | None = None, depth: int = 5, output_stride: int = 32) -> None:
        super().__init__()
        self.network, self.convention = build_trunk(name, weights)
        self.backbone = name
        self.pretrained = weights is not None
        self.maps = _maps_by_level(name, self.network, depth)
        self.network.truncate(self.maps[-1])
        channels = self.network.out_channels
        self._depth = depth
        self._in_channels = 3
        self._output_stride = output_stride
        self._out_channels = [3, *(channels[map_] if map_ else 0 for map_ in self.maps)]

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Arguments of smp's ``preprocess_input`` for RGB pixels of 0 to 255."""
        mean, std = unit_statistics(self.convention)
        return {"mean": mean, "std": std, "input_space": "RGB", "input_range": [0, 1]}

    def forward(self, images: Tensor) -> list[Tensor]:
        found = self.network.features(from_rgb(images, self.convention))
        batch, _, height, width = images.shape
        maps = [images]
        for level, name in enumerate(self.maps, start=1):
            empty = (batch, 0, height >> level, width >> level)
            maps.append(found[name] if name else images.new_empty(empty))
        return maps

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Other than three channels: the first convolution is repeated over them, or new without weights.

        Raises:
            InputError: the weights are for BGR, where the order of other channels has no meaning.
        """
        if in_channels != 3 and self.convention.channels == "BGR":
            raise InputError(f"{self.backbone}: weights for BGR images cannot take {in_channels} channels")
        super().set_in_channels(in_channels, pretrained=self.pretrained)

    def get_stages(self) -> dict[int, list[nn.Module]]:
        """What ``make_dilated`` may change: the stages at each stride beyond 8."""
        stages: dict[int, list[nn.Module]] = {}
        for name, stride in self.network.out_strides.items():
            if stride > 8:
                stages.setdefault(stride, []).append(self.network.stage(name))
        return stages

    def make_dilated(self, output_stride: int) -> None:
        """Replace the strides after ``output_stride`` by dilation.

        Raises:
            InputError: something other than a convolution has a stride there (pooling, shortcuts of option A).
        """
        for stride, stages in self.get_stages().items():
            for module in (module for stage in stages for module in stage.modules()):
                if stride > output_stride and not isinstance(module, nn.Conv2d) and _has_stride(module):
                    kind = type(module).__name__
                    raise InputError(f"{self.backbone}: {kind} halves the resolution, so output_stride stays 32")
        super().make_dilated(output_stride)


def register(name: str, weights: str | Path | None = None) -> str:
    """Add, or replace, the encoder ``shortcut-NAME`` of smp.

    Networks that are registered in ours after this module was imported need it; so do pretrained weights.

    Args:
        name: one of ``list_backbones()``.
        weights: what ``read_weights`` takes; None leaves the network freshly initialized.

    Returns:
        The encoder's name.

    Raises:
        InputError: nobody offers the network.
    """
    find_variant(name)
    return _add(name, None if weights is None else str(weights))


def _add(name: str, weights: str | None = None) -> str:
    encoder = f"shortcut-{name}"
    params = {"name": name, "weights": weights}
    _encoders.encoders[encoder] = {"encoder": ShortcutEncoder, "pretrained_settings": {}, "params": params}
    return encoder


def _maps_by_level(name: str, network: Backbone, depth: int) -> list[str]:
    """Our map at stride 2, 4, ..., 2 ** depth; an empty name where there is none."""
    by_stride = deepest_at_each_stride(network)
    if depth < 1 or 2**depth not in by_stride:
        strides = ", ".join(str(stride) for stride in by_stride)
        raise InputError(f"{name} has maps at strides {strides}: an encoder depth of {depth} needs one at {2**depth}")
    return [by_stride.get(2**level, "") for level in range(1, depth + 1)]


def _has_stride(module: nn.Module) -> bool:
    return getattr(module, "stride", 1) not in (1, (1, 1))


for _name in list_backbones():
    _add(_name)
