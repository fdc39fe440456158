"""The paper's own detector (appendix A): conv1 to conv4_x on the image, conv5_x on each region.

"Networks on conv feature maps" (Ren et al.): the last stage plays the part of VGG's linear layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from backbones.contract import Backbone
from detection.heads.contract import DetectionHead
from detection.settings import PoolSettings


class C4Head(DetectionHead):
    """One feature level, the last but one; regions are pooled from it and pass the last stage.

    Args:
        backbone: without a classifier.
        settings: of RoIAlign; the last stage halves its size.
    """

    def __init__(self, backbone: Backbone, settings: PoolSettings) -> None:
        super().__init__()
        self.backbone = backbone
        *_, self.map, self.last = backbone.out_strides
        self.settings = settings
        self.strides = (backbone.out_strides[self.map],)
        self.channels = backbone.out_channels[self.map]
        self.vector = backbone.out_channels[self.last]

    def features(self, images: Tensor) -> list[Tensor]:
        return [self.backbone.features(images, until=self.map)[self.map]]

    def pool(self, features: Sequence[Tensor], boxes: Tensor, roi_align: Callable[..., Tensor]) -> Tensor:
        level = torch.zeros(boxes.shape[:2], dtype=torch.long, device=boxes.device)
        pooled: Tensor = roi_align(features, self.strides, boxes, level, self.settings)
        return pooled

    def vectors(self, pooled: Tensor) -> Tensor:
        """[N, C, size, size] -> [N, vector]: conv5_x, then the mean over its positions."""
        last: Tensor = self.backbone.stage(self.last)(pooled)
        return last.mean((2, 3))
