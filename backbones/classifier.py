"""A network with its normalization: uint8 pixels in, logits out."""

from __future__ import annotations

from torch import Tensor, nn

from backbones.contract import Backbone
from backbones.normalization import Normalize


class Classifier(nn.Module):
    """[B, 3, H, W] uint8 RGB -> logits [B, K], in the order of ``classes``."""

    def __init__(self, network: Backbone, normalize: Normalize, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.normalize = normalize
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalize(images))
        return logits
