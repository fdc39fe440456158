"""The region proposal network (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbones.running.keyed_random import uniform
from detection.anchors import AnchorGrid
from detection.boxes import RPN_WEIGHTS, encode
from detection.loss_counts import count_of
from detection.losses import smooth_l1
from detection.matching import Matches, match
from detection.operators import Operators
from detection.proposals import Proposals, select_proposals
from detection.sampling import Samples, draw
from detection.settings import ProposalSettings, SamplingSettings
from detection.targets import Targets


class RegionProposalNetwork(nn.Module):
    """3x3 convolutions (one in the paper) and two 1x1 siblings, shared by all levels, over a grid of anchors.

    Args:
        anchors: the grid.
        channels: of each feature level.
        convs: how many 3x3 convolutions.
        sampling: which anchors the loss sees.
        beta: of the smooth L1 loss.
    """

    def __init__(self, anchors: AnchorGrid, channels: int, convs: int, sampling: SamplingSettings, beta: float) -> None:
        super().__init__()
        self.anchors = anchors
        self.sampling = sampling
        self.beta = beta
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs))
        self.relu = nn.ReLU(inplace=True)
        self.objectness = nn.Conv2d(channels, anchors.per_position, 1)
        self.deltas = nn.Conv2d(channels, anchors.per_position * 4, 1)
        for layer in (*self.convs, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Levels [B, C, h, w] -> for each level logits [B, h*w*A] and deltas [B, h*w*A, 4], in anchor order."""
        logits, deltas = [], []
        for feature in features:
            hidden = feature
            for conv in self.convs:
                hidden = self.relu(conv(hidden))
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).reshape(feature.shape[0], -1, 4))
        return logits, deltas

    def propose(
        self,
        features: Sequence[Tensor],
        outputs: tuple[list[Tensor], list[Tensor]],
        sizes: Tensor,
        settings: ProposalSettings,
        operators: Operators,
    ) -> Proposals:
        """Proposals from what ``forward`` gave for ``features``; no gradient flows through them."""
        logits, deltas = outputs
        return select_proposals(logits, deltas, self.anchors(features), sizes, settings, operators)

    def sample(self, features: Sequence[Tensor], targets: Targets) -> tuple[Matches, Samples]:
        """Which anchors the loss sees, and what they stand for."""
        matches = match(torch.cat(self.anchors(features)), targets, self.sampling)
        return matches, draw(matches, self.sampling, uniform(targets.keys, self.anchors.identities(features)))

    def losses(
        self,
        features: Sequence[Tensor],
        outputs: tuple[list[Tensor], list[Tensor]],
        targets: Targets,
        count: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Equation 1 of the Faster R-CNN paper: both terms are means over the drawn anchors of the global batch.

        Args:
            features: levels.
            outputs: what ``forward`` gave for them.
            targets: the objects.
            count: the number of drawn anchors to divide by, if it is known.
        """
        logits, deltas = (torch.cat([level.float() for level in levels], 1) for levels in outputs)
        anchors = torch.cat(self.anchors(features))
        matches, samples = self.sample(features, targets)
        wide = samples.index[..., None].expand(-1, -1, 4)
        objects = torch.gather(targets.boxes, 1, matches.matched.gather(1, samples.index)[..., None].expand(-1, -1, 4))
        wanted = encode(objects, anchors[samples.index], RPN_WEIGHTS)
        chosen = logits.gather(1, samples.index)
        count = count_of(samples.valid, count)
        objectness = functional.binary_cross_entropy_with_logits(chosen, samples.positive.float(), reduction="none")
        boxes = smooth_l1(deltas.gather(1, wide) - wanted, self.beta).sum(-1)
        return {
            "rpn_objectness": torch.where(samples.valid, objectness, 0.0).sum() / count,
            "rpn_boxes": torch.where(samples.positive, boxes, 0.0).sum() / count,
        }
