"""Backbones for MMDetection, and for whatever else builds from MMEngine's registry (MMSegmentation, MMPretrain).

    custom_imports = dict(imports=["backbones.plugins.mmdet"])
    backbone = dict(type="ShortcutBackbone", name="resnet50", frozen_stages=1,
                    init_cfg=dict(type="Pretrained", checkpoint="runs/resnet50"))

Importing this module registers ``ShortcutBackbone``. ``data_preprocessor(weights)`` gives the matching input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from backbones.errors import InputError
from backbones.freezing import first_stages
from backbones.plugins import build_trunk, check_maps, import_host

_INSTALL = "pip install mmengine"
_registry = import_host("mmengine.registry", _INSTALL)
_model = import_host("mmengine.model", _INSTALL)
_BaseModule: Any = _model.BaseModule


@_registry.MODELS.register_module()
class ShortcutBackbone(_BaseModule):  # type: ignore[misc]
    """[B, 3, H, W], normalized -> a tuple of maps; index 0 is our c2 (stride 4), as in MMDetection's ``ResNet``.

    The neck's ``in_channels`` are not negotiated: they are ``out_channels`` of this module.

    Args:
        name: one of ``list_backbones()``.
        out_indices: the maps to return, 0 for c2, 1 for c3, ...; later stages are removed.
        frozen_stages: -1 none, 0 the stem, 1 also conv2_x, ...
        norm_eval: keep batch normalization in evaluation mode while training.
        init_cfg: MMEngine's; ``dict(type="Pretrained", checkpoint=...)`` takes what ``read_weights`` takes, and is
            strict, where MMEngine's own loading passes over names that it does not know.

    Raises:
        InputError: unknown names or indices.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = True,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.name = name
        self.network, _ = build_trunk(name)
        returnable = dict(enumerate(list(self.network.out_channels)[1:]))
        check_maps(name, [str(index) for index in out_indices], [str(index) for index in returnable])
        self.maps = [returnable[index] for index in sorted(out_indices)]
        self.network.truncate(self.maps[-1])
        self.out_channels = [self.network.out_channels[map_] for map_ in self.maps]
        self.norm_eval = norm_eval
        self._frozen = list(first_stages(self.network, frozen_stages + 1).values())
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.network.features(images)
        return tuple(found[name] for name in self.maps)

    def train(self, mode: bool = True) -> ShortcutBackbone:
        """As everywhere, but frozen stages stay frozen, and batch normalization in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval().requires_grad_(False)
        if self.norm_eval:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Load the weights of ``init_cfg``, or initialize as it says.

        Raises:
            InputError: the weights do not fit, or ``init_cfg`` asks for more than to load them.
        """
        settings = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []
        if not any(one["type"] in ("Pretrained", _model.PretrainedInit) for one in settings):
            super().init_weights()
            return
        if len(settings) > 1 or settings[0].keys() != {"type", "checkpoint"}:
            raise InputError(f"init_cfg: with Pretrained it takes a checkpoint and nothing else, not {self.init_cfg}")
        trunk, _ = build_trunk(self.name, settings[0]["checkpoint"], last=self.maps[-1])
        self.network.load_state_dict(trunk.state_dict())
        self.is_init = True


def data_preprocessor(weights: str | Path) -> dict[str, Any]:
    """The ``data_preprocessor`` of a detector's config that gives these weights the input they expect.

    MMDetection reads images as BGR, and normalizes after ``bgr_to_rgb``.
    """
    from backbones.weights.loading import read_weights

    convention = read_weights(weights).convention
    return {
        "type": "DetDataPreprocessor",
        "mean": list(convention.mean),
        "std": list(convention.std),
        "bgr_to_rgb": convention.channels == "RGB",
        "pad_size_divisor": 32,
    }
