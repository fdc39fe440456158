"""Backbones for torchvision's detectors (``MaskRCNN``, ``FasterRCNN``, ...) and segmenters (``FCN``, ``DeepLabV3``).

    backbone = fpn_backbone("resnet50", weights="runs/resnet50")
    model = MaskRCNN(backbone, 21, image_mean=backbone.image_mean, image_std=backbone.image_std)

The maps come from our ``features``. torchvision's ``IntermediateLayerGetter`` is not used: it calls the children
of a network one after the other and never its ``forward``.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from backbones.batch_norm import freeze_batch_norm
from backbones.contract import Backbone
from backbones.convention import InputConvention
from backbones.freezing import freeze_stages
from backbones.plugins import (
    build_trunk,
    check_maps,
    deepest_at_each_stride,
    from_rgb,
    import_host,
    unit_statistics,
)

_pyramid = import_host("torchvision.ops.feature_pyramid_network", "pip install torchvision")


class FeatureMaps(nn.Module):
    """Feature maps under the names that torchvision expects. RGB [B, 3, H, W], normalized -> {name: [B, C, h, w]}.

    Args:
        network: from ``build_backbone``.
        convention: the input that its weights expect.
        maps: our names of the maps by torchvision's, the shallowest first.

    Attributes:
        image_mean, image_std: what to give to torchvision's ``GeneralizedRCNNTransform``, for pixels in [0, 1].
        out_channels: channels of the last map.
    """

    def __init__(self, network: Backbone, convention: InputConvention, maps: dict[str, str]) -> None:
        super().__init__()
        self.network = network
        self.convention = convention
        self.maps = maps
        self.last = max(maps.values(), key=list(network.out_channels).index)
        self.image_mean, self.image_std = unit_statistics(convention)
        self.out_channels = network.out_channels[self.last]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = self.network.features(from_rgb(images, self.convention), until=self.last)
        return {theirs: found[ours] for theirs, ours in self.maps.items()}


class Pyramid(FeatureMaps):
    """torchvision's feature pyramid on our maps. RGB [B, 3, H, W] -> {"0": [B, out_channels, h, w], ..., "pool"}.

    Args:
        network, convention, maps: as in ``FeatureMaps``.
        out_channels: channels of every level.
        extra_blocks: a torchvision ``ExtraFPNBlock`` for coarser levels; None adds "pool" by max pooling.
    """

    def __init__(
        self,
        network: Backbone,
        convention: InputConvention,
        maps: dict[str, str],
        out_channels: int = 256,
        extra_blocks: nn.Module | None = None,
    ) -> None:
        super().__init__(network, convention, maps)
        self.out_channels = out_channels
        channels = [network.out_channels[name] for name in maps.values()]
        extra = _pyramid.LastLevelMaxPool() if extra_blocks is None else extra_blocks
        self.fpn = _pyramid.FeaturePyramidNetwork(channels, out_channels, extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels: dict[str, Tensor] = self.fpn(super().forward(images))
        return levels


def fpn_backbone(
    name: str,
    weights: str | Path | None = None,
    *,
    maps: tuple[str, ...] | None = None,
    out_channels: int = 256,
    extra_blocks: nn.Module | None = None,
    trainable_layers: int | None = None,
    frozen_norm: bool | None = None,
) -> Pyramid:
    """A backbone with a feature pyramid, as torchvision's ``resnet_fpn_backbone`` gives.

    Args:
        name: one of ``list_backbones()``.
        weights: what ``read_weights`` takes; None leaves the network freshly initialized.
        maps: the maps under the pyramid, the shallowest first; None takes the deepest at each stride from 4 on.
        out_channels: channels of every level.
        extra_blocks: a torchvision ``ExtraFPNBlock``; None adds "pool" by max pooling.
        trainable_layers: stages that learn, counted from the last; None is 3 with weights and all without.
        frozen_norm: fix all batch normalization; None does so with weights.

    Raises:
        InputError: unknown names, or weights that do not fit.
    """
    network, convention = build_trunk(name, weights)
    if maps is None:
        maps = tuple(map_ for stride, map_ in deepest_at_each_stride(network).items() if stride >= 4)
    _prepare(name, network, maps, weights is not None, trainable_layers, frozen_norm)
    return Pyramid(network, convention, {str(i): map_ for i, map_ in enumerate(maps)}, out_channels, extra_blocks)


def single_map_backbone(
    name: str,
    weights: str | Path | None = None,
    *,
    last: str = "c4",
    trainable_layers: int | None = None,
    frozen_norm: bool | None = None,
) -> FeatureMaps:
    """A backbone without a pyramid: {"0": the map ``last``}. The other arguments are those of ``fpn_backbone``."""
    network, convention = build_trunk(name, weights)
    _prepare(name, network, (last,), weights is not None, trainable_layers, frozen_norm)
    return FeatureMaps(network, convention, {"0": last})


def segmentation_backbone(
    name: str,
    weights: str | Path | None = None,
    *,
    out: str = "c5",
    aux: str | None = None,
    trainable_layers: int | None = None,
    frozen_norm: bool = False,
) -> FeatureMaps:
    """The backbone of ``FCN`` and ``DeepLabV3``: {"out": map} and, where wanted, {"aux": map}.

    Maps keep their strides: torchvision's own segmenters dilate the last two stages to stride 8 in place of 32.
    """
    network, convention = build_trunk(name, weights)
    maps = {"out": out} if aux is None else {"out": out, "aux": aux}
    _prepare(name, network, tuple(maps.values()), weights is not None, trainable_layers, frozen_norm)
    return FeatureMaps(network, convention, maps)


def _prepare(
    name: str,
    network: Backbone,
    maps: tuple[str, ...],
    pretrained: bool,
    trainable_layers: int | None,
    frozen_norm: bool | None,
) -> None:
    """Remove what nobody runs, and freeze. torchvision counts stages from the last, of those that the network had."""
    check_maps(name, maps, network.out_channels)
    stages = len(network.out_channels)
    trainable = trainable_layers if trainable_layers is not None else 3 if pretrained else stages
    network.truncate(max(maps, key=list(network.out_channels).index))
    freeze_stages(network, min(max(stages - trainable, 0), len(network.out_channels)))
    if pretrained if frozen_norm is None else frozen_norm:
        freeze_batch_norm(network)
