"""Faster R-CNN and Mask R-CNN as one batched tensor program: the same module trains, compiles and exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from backbones.contract import Backbone
from backbones.normalization import Normalize
from detection.heads.contract import DetectionHead
from detection.improvements.context import beside_each, with_whole_image
from detection.improvements.refinement import refine
from detection.loss_counts import LossCounts
from detection.masks.branch import MaskBranch, mask_loss, mask_probabilities, mask_targets
from detection.operators import EAGER
from detection.pooling import RegionPooler, SingleScalePooler
from detection.proposals import Proposals
from detection.regions import BoxPredictor, RegionTargets, region_losses, sample_regions
from detection.rpn import RegionProposalNetwork
from detection.scoring import DetectionBatch, Pairs, RegionScores, Scorer, best_pairs, suppress
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
        masks: fitting the head's maps, or None.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        normalize: Normalize,
        head: DetectionHead,
        rpn: RegionProposalNetwork,
        predictor: BoxPredictor,
        masks: MaskBranch | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.normalize = normalize
        self.head = head
        self.rpn = rpn
        self.predictor = predictor
        self.masks = masks
        self.operators = EAGER

    @property
    def backbone(self) -> Backbone:
        """The network below the head."""
        return self.head.backbone

    def losses(self, images: Tensor, targets: Targets, counts: LossCounts | None = None) -> dict[str, Tensor]:
        """The losses of Faster R-CNN, and of the masks, each a scalar; their sum is what training minimizes.

        Args:
            images: [B, 3, H, W] uint8 RGB, padded.
            targets: the objects.
            counts: what the losses are divided by, where these images are a part of a batch.
        """
        features = self.head.features(self.normalize(images, targets.sizes))
        outputs = self.rpn(features)
        losses = self.rpn.losses(features, outputs, targets, counts.anchors if counts else None)
        regions = self._draw(features, outputs, targets)
        pool = SingleScalePooler(self.head, features, self.operators)
        maps, vectors = self._describe(pool, regions.boxes, targets.sizes)
        logits, deltas = self.predictor(vectors)
        losses |= region_losses(logits, deltas, regions, self.settings.roi_beta, counts.regions if counts else None)
        if self.masks is not None:
            known = counts.masks if counts else None
            losses["masks"] = self._mask_loss(self.masks, pool, maps, regions, targets, known)
        return losses

    @torch.no_grad()
    def loss_counts(self, images: Tensor, targets: Targets) -> LossCounts:
        """What ``losses`` draws from the same batch, at the price of the first stage. Arguments as there."""
        features = self.head.features(self.normalize(images, targets.sizes))
        _, samples = self.rpn.sample(features, targets)
        regions = self._draw(features, self.rpn(features), targets)
        drawn = (samples.valid, regions.valid, regions.valid & (regions.labels > 0))
        return LossCounts(*(part.sum().float() for part in drawn))

    def _draw(
        self, features: Sequence[Tensor], outputs: tuple[list[Tensor], list[Tensor]], targets: Targets
    ) -> RegionTargets:
        proposals = self.rpn.propose(features, outputs, targets.sizes, self.settings.train_proposals, self.operators)
        return sample_regions(proposals, targets, self.settings.roi_sampling)

    def _mask_loss(
        self,
        branch: MaskBranch,
        pool: RegionPooler,
        maps: Tensor,
        regions: RegionTargets,
        targets: Targets,
        count: Tensor | None,
    ) -> Tensor:
        """Masks are learned on positive regions, which come first among those drawn."""
        assert targets.masks is not None, "training masks needs masks in the targets"
        sampling = self.settings.roi_sampling
        drawn = regions.boxes.shape[1]
        first = regions.first(min(int(sampling.count * sampling.positive_fraction), drawn))
        most = first.labels.shape[1]
        if self.head.masks_from_maps:
            logits = branch(maps[:, :most].flatten(0, 1))
        else:
            logits = branch(pool(first.boxes, branch.settings.pool))
        slots = first.matched[..., None, None].expand(-1, -1, *targets.masks.shape[2:])
        grids = targets.masks.gather(1, slots).flatten(0, 1)
        wanted = mask_targets(grids, first.objects.flatten(0, 1), first.boxes.flatten(0, 1), logits.shape[-1])
        labels = first.labels.flatten()
        return mask_loss(logits, wanted, labels - 1, (labels > 0) & first.valid.flatten(), count)

    def detect(self, images: Tensor, sizes: Tensor) -> DetectionBatch:
        """Detections of a padded batch, in its own pixels.

        Args:
            images: [B, 3, H, W] uint8 RGB, padded to a multiple of the coarsest stride.
            sizes: (height, width) of the valid area of each [B, 2].
        """
        features, proposals = self.propose(images, sizes)
        pool = SingleScalePooler(self.head, features, self.operators)
        pairs = self.pairs(self.scorer(pool, sizes), proposals, sizes)
        return self.finish(pairs, proposals.exact, pool)

    def propose(self, images: Tensor, sizes: Tensor) -> tuple[Sequence[Tensor], Proposals]:
        """The first stage: feature levels, and proposals. Arguments as for ``detect``."""
        features = self.head.features(self.normalize(images, sizes))
        outputs = self.rpn(features)
        proposals = self.rpn.propose(features, outputs, sizes, self.settings.test_proposals, self.operators)
        return features, proposals.trimmed() if self.operators.trims else proposals

    def scorer(self, pool: RegionPooler, sizes: Tensor) -> Scorer:
        """The second stage for the images that ``pool`` pools from."""

        def score(boxes: Tensor, valid: Tensor) -> RegionScores:
            _, vectors = self._describe(pool, boxes, sizes)
            logits, deltas = self.predictor(vectors)
            probabilities = logits.float().softmax(-1)[..., 1:]
            return RegionScores(boxes, valid, probabilities, deltas.float())

        return score

    def pairs(self, score: Scorer, proposals: Proposals, sizes: Tensor) -> Pairs:
        """Scored and regressed proposals, refined if the settings say so."""
        regions = score(proposals.boxes, proposals.valid)
        if self.settings.output.refine:
            regions = refine(regions, score, sizes)
        return best_pairs(regions, sizes, self.settings.output)

    def finish(self, pairs: Pairs, exact: Tensor, pool: RegionPooler) -> DetectionBatch:
        """Suppression, and the masks of what it keeps.

        Args:
            pairs: of proposals, or of several views.
            exact: [B] bool, whether the proposals' own suppression was.
            pool: where masks are pooled from.
        """
        found = suppress(pairs, self.settings.output, self.operators)
        found = replace(found.trimmed() if self.operators.trims else found, exact=found.exact & exact)
        if self.masks is None:
            return found
        if self.head.masks_from_maps:
            logits = self.masks(self.head.maps(pool(found.boxes)))
        else:
            logits = self.masks(pool(found.boxes, self.masks.settings.pool))
        return replace(found, masks=mask_probabilities(logits, found.labels))

    def _describe(self, pool: RegionPooler, boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [B, R, C, s, s] and vectors [B, R, V] of regions, with context where the detector has it."""
        if self.settings.context:
            boxes = with_whole_image(boxes, sizes)
        maps = self.head.maps(pool(boxes))
        vectors = self.head.vectors(maps).unflatten(0, boxes.shape[:2])
        maps = maps.unflatten(0, boxes.shape[:2])
        if self.settings.context:
            return maps[:, :-1], beside_each(vectors)
        return maps, vectors

    def forward(self, images: Tensor, sizes: Tensor) -> DetectionBatch:
        return self.detect(images, sizes)
