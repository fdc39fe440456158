"""From anchors with scores to proposals (Ren et al. 2015, section 3.3), for all images and levels at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from detection.boxes import RPN_WEIGHTS, clip, decode
from detection.operators import Operators
from detection.settings import ProposalSettings

_NEVER = float("-inf")
_SMALLEST = 1e-3


@dataclass(frozen=True)
class Proposals:
    """P candidate boxes of each image, best first.

    Attributes:
        boxes: [B, P, 4] pixels, inside the image; zeros where not valid.
        valid: [B, P] bool.
        exact: [B] bool, whether suppression reached its fixed point.
    """

    boxes: Tensor
    valid: Tensor
    exact: Tensor

    def trimmed(self) -> Proposals:
        """Without the columns, at the end, that are valid in no image; one stays."""
        used = max(1, int(self.valid.sum(1).max()))
        return Proposals(self.boxes[:, :used], self.valid[:, :used], self.exact)


@torch.no_grad()
def select_proposals(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    sizes: Tensor,
    settings: ProposalSettings,
    operators: Operators,
) -> Proposals:
    """Keep the best anchors of each level, regress and clip them, suppress within the level, keep the best of all.

    Args:
        logits: for each level [B, N_l].
        deltas: for each level [B, N_l, 4].
        anchors: for each level [N_l, 4].
        sizes: (height, width) of each image [B, 2].
        settings: the numbers.
        operators: the form of suppression.
    """
    counts = [level.shape[1] for level in logits]
    count = settings.before_nms if _shapes_are_symbols(counts) else min(settings.before_nms, max(counts))
    scores, boxes = [], []
    for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
        level_scores, level_boxes = _best_of_level(level_logits.float(), level_deltas.float(), level_anchors, count)
        scores.append(level_scores)
        boxes.append(level_boxes)
    batch, levels = sizes.shape[0], len(scores)
    all_scores = torch.stack(scores, 1)  # [B, L, count]
    all_boxes = clip(torch.stack(boxes, 1), sizes)
    extent = all_boxes[..., 2:] - all_boxes[..., :2]
    valid = (all_scores > _NEVER) & (extent.amin(-1) >= _SMALLEST)
    keep, exact = operators.nms(
        all_boxes.reshape(batch * levels, count, 4), valid.reshape(batch * levels, count), settings.nms_threshold
    )
    kept = torch.where(keep.reshape(batch, -1), all_scores.reshape(batch, -1), _NEVER)
    best, index = kept.topk(min(settings.after_nms, levels * count), 1)
    valid = best > _NEVER
    chosen = torch.gather(all_boxes.reshape(batch, -1, 4), 1, index[..., None].expand(-1, -1, 4))
    return Proposals(torch.where(valid[..., None], chosen, 0.0), valid, exact.reshape(batch, levels).all(1))


def _best_of_level(logits: Tensor, deltas: Tensor, anchors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best anchors, regressed; a level with fewer is padded with scores of minus infinity."""
    total = logits.shape[1]
    symbol = _shapes_are_symbols([total])
    if symbol or total < count:
        missing = count if symbol else count - total  # of a symbol any value must be legal
        logits = functional.pad(logits, (0, missing), value=_NEVER)
        deltas = functional.pad(deltas, (0, 0, 0, missing))
        anchors = functional.pad(anchors, (0, 0, 0, missing))
    scores, index = logits.topk(count, 1)
    chosen = torch.gather(deltas, 1, index[..., None].expand(-1, -1, 4))
    return scores, decode(chosen, anchors[index], RPN_WEIGHTS)


def _shapes_are_symbols(counts: Sequence[int]) -> bool:
    """Whether sizes are free, as in graphs that are exported or compiled: asking whether a level has fewer anchors than
    are wanted would make a graph for each answer."""
    return torch.compiler.is_compiling() or not all(isinstance(count, int) for count in counts)
