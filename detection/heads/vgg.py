"""The paper's baseline detector: VGG's convolutions on the image, its fc6 and fc7 on each region (Ren et al. 2015)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from backbones.vgg import VGG
from detection.heads.contract import DetectionHead
from detection.settings import DetectorSettings

logger = logging.getLogger("shortcut")


class VGGHead(DetectionHead):
    """conv5_3 at stride 16, without the pooling behind it, and the classifier's linear layers.

    Args:
        backbone: without a classifier.
        settings: ``pool``, ``vector`` (4096 in VGG), ``dropout``.
    """

    def __init__(self, backbone: VGG, settings: DetectorSettings) -> None:
        super().__init__()
        self.backbone = backbone
        *_, self.map = backbone.out_strides
        self.pool, self.vector = settings.pool, settings.vector
        self.strides = self.pooled_strides = (backbone.out_strides[self.map],)
        self.channels = self.map_channels = backbone.out_channels[self.map]
        self.fc6 = nn.Linear(self.channels * settings.pool.size**2, self.vector)
        self.fc7 = nn.Linear(self.vector, self.vector)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(settings.dropout)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def features(self, images: Tensor) -> list[Tensor]:
        return [self.backbone.features(images)[self.map]]

    def vectors(self, maps: Tensor) -> Tensor:
        """[N, C, size, size] -> [N, vector]. Bins are flattened channels, rows, columns, as VGG's classifier does."""
        hidden = self.dropout(self.relu(self.fc6(torch.flatten(maps, 1))))
        activated: Tensor = self.dropout(self.relu(self.fc7(hidden)))
        return activated

    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        taken = self.load_linears(tensors)
        logger.info("fc6 and fc7 %s", "are those of the weights" if taken else "start afresh: their shapes differ")

    def load_linears(self, tensors: Mapping[str, Tensor]) -> bool:
        """Take fc6 and fc7 over from a classifier's state dict; False where their shapes differ or they are missing."""
        wanted = {f"classifier.{name}": value for name, value in self.state_dict().items() if name.startswith("fc")}
        given = {name: tensors[name] for name in wanted if name in tensors}
        if {name: value.shape for name, value in given.items()} != {name: v.shape for name, v in wanted.items()}:
            return False
        self.load_state_dict({name.removeprefix("classifier."): v for name, v in given.items()}, strict=False)
        return True
