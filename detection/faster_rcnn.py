"""Faster R-CNN as one batched tensor program: the same module trains, compiles and exports."""

from __future__ import annotations

from torch import Tensor, nn

from backbones.normalization import Normalize
from detection.heads.contract import DetectionHead
from detection.operators import EAGER
from detection.regions import (
    BoxPredictor,
    DetectionBatch,
    region_losses,
    sample_regions,
    select_detections,
)
from detection.rpn import RegionProposalNetwork
from detection.settings import DetectorSettings
from detection.targets import Targets


class FasterRCNN(nn.Module):
    """Image -> features -> proposals -> regions -> detections.

    ``losses`` trains, ``detect`` finds (also as ``detector(images, sizes)``); both take a padded batch of raw pixels.
    ``operators`` says in which form suppression and RoIAlign run.

    Args:
        settings: what this detector is; it travels with the weights.
        normalize: pixels to network input.
        head: the backbone, divided between image and regions.
        rpn: fitting the head's levels.
        predictor: fitting the head's vectors.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        normalize: Normalize,
        head: DetectionHead,
        rpn: RegionProposalNetwork,
        predictor: BoxPredictor,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.normalize = normalize
        self.head = head
        self.rpn = rpn
        self.predictor = predictor
        self.operators = EAGER

    def losses(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The four losses of Faster R-CNN, each a scalar; their sum is what training minimizes.

        Args:
            images: [B, 3, H, W] uint8 RGB, padded.
            targets: the objects.
        """
        features = self.head.features(self.normalize(images, targets.sizes))
        outputs = self.rpn(features)
        losses = self.rpn.losses(features, outputs, targets)
        proposals = self.rpn.propose(features, outputs, targets.sizes, self.settings.train_proposals, self.operators)
        regions = sample_regions(proposals, targets, self.settings.roi_sampling)
        pooled = self.head.pool(features, regions.boxes, self.operators.roi_align)
        logits, deltas = self.predictor(self.head.vectors(pooled))
        return losses | region_losses(logits, deltas, regions, self.settings.roi_beta)

    def detect(self, images: Tensor, sizes: Tensor) -> DetectionBatch:
        """Detections of a padded batch, in its own pixels.

        Args:
            images: [B, 3, H, W] uint8 RGB, padded to a multiple of the coarsest stride.
            sizes: (height, width) of the valid area of each [B, 2].
        """
        features = self.head.features(self.normalize(images, sizes))
        outputs = self.rpn(features)
        proposals = self.rpn.propose(features, outputs, sizes, self.settings.test_proposals, self.operators)
        pooled = self.head.pool(features, proposals.boxes, self.operators.roi_align)
        logits, deltas = self.predictor(self.head.vectors(pooled))
        return select_detections(logits, deltas, proposals, sizes, self.settings.output, self.operators)

    def forward(self, images: Tensor, sizes: Tensor) -> DetectionBatch:
        return self.detect(images, sizes)
