"""The paper's own detector (appendix A): conv1 to conv4_x on the image, conv5_x on each region.

"Networks on conv feature maps" (Ren et al.): the last stage plays the part of VGG's linear layers.
"""

from __future__ import annotations

from torch import Tensor

from backbones.contract import Backbone
from detection.heads.contract import DetectionHead
from detection.settings import DetectorSettings


class C4Head(DetectionHead):
    """One feature level, the last but one; regions are pooled from it and pass the last stage.

    Args:
        backbone: without a classifier.
        settings: ``pool``, of whose size the last stage makes half.
    """

    masks_from_maps = True

    def __init__(self, backbone: Backbone, settings: DetectorSettings) -> None:
        super().__init__()
        self.backbone = backbone
        *_, self.map, self.last = backbone.out_strides
        self.pool = settings.pool
        self.strides = self.pooled_strides = (backbone.out_strides[self.map],)
        self.channels = backbone.out_channels[self.map]
        self.vector = self.map_channels = backbone.out_channels[self.last]

    def features(self, images: Tensor) -> list[Tensor]:
        return [self.backbone.features(images, until=self.map)[self.map]]

    def maps(self, pooled: Tensor) -> Tensor:
        """[N, C, size, size] -> [N, vector, size/2, size/2]: conv5_x."""
        last: Tensor = self.backbone.stage(self.last)(pooled)
        return last

    def vectors(self, maps: Tensor) -> Tensor:
        """[N, vector, h, w] -> [N, vector]: the mean over positions."""
        return maps.mean((2, 3))
