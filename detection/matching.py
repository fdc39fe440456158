"""Which object, if any, each candidate box stands for (Ren et al. 2015, section 3.1.2), for a whole batch.

Overlaps are looked at piece by piece, so that memory does not grow with the most crowded picture. On a processor, where
work counts, each picture meets its own objects only; on a GPU and in compiled graphs, where launches and changing
shapes count, all pictures meet all slots at once. What comes out is the same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from detection.boxes import coverage, iou
from detection.settings import SamplingSettings
from detection.targets import Targets

IGNORED_COVERAGE = 0.5
"""A candidate that lies to this share in a crowd or a difficult object is no background example."""

PROCESSOR_PAIRS = 2**18
"""Pairs of a candidate and an object that are compared at once on a processor: one value of each fits its cache."""
DEVICE_PAIRS = 2**28
"""The same elsewhere: a gigabyte of each value."""
KEPT_PAIRS = 2**25
"""Of so many the overlaps are kept until all are known; those of more are computed again."""
COMPILED_SLOTS = 512
"""What a compiled graph, in which the number of slots is free, is cut for."""


@dataclass(frozen=True)
class Matches:
    """The outcome for N candidates of each image.

    Attributes:
        positive: [B, N] bool, the candidate stands for object ``matched``.
        negative: [B, N] bool, it stands for background. Neither: it takes no part.
        matched: [B, N] int64, the best object; without meaning where there is none.
    """

    positive: Tensor
    negative: Tensor
    matched: Tensor


def match(candidates: Tensor, targets: Targets, settings: SamplingSettings) -> Matches:
    """Compare candidates with objects by IoU.

    Args:
        candidates: [N, 4], the same for all images, or [B, N, 4].
        targets: the objects.
        settings: the thresholds.
    """
    if candidates.dim() == 2:
        candidates = candidates[None]
    if torch.compiler.is_compiling() or candidates.device.type != "cpu":
        return _compare(candidates, targets.boxes, targets.present, targets.ignored, settings)
    each = candidates.expand(len(targets.boxes), -1, -1).split(1)
    found = [_compare_own(own, targets, image, settings) for image, own in enumerate(each)]
    return Matches(*(torch.cat([getattr(matches, item.name) for matches in found]) for item in fields(Matches)))


def _compare_own(candidates: Tensor, targets: Targets, image: int, settings: SamplingSettings) -> Matches:
    """One image's candidates [1, N, 4], with the slots that hold something."""
    used = (targets.present[image] | targets.ignored[image]).nonzero()[:, 0]
    slots = used if len(used) else used.new_zeros(1)  # an empty one, so that there is a best
    boxes, present, ignored = (part[image, slots][None] for part in (targets.boxes, targets.present, targets.ignored))
    found = _compare(candidates, boxes, present, ignored if ignored.any() else None, settings)
    return Matches(found.positive, found.negative, slots[found.matched])


def _compare(
    candidates: Tensor, boxes: Tensor, present: Tensor, ignored: Tensor | None, settings: SamplingSettings
) -> Matches:
    """Candidates [B or 1, N, 4] with slots [B, G, 4], [B, G]; ``ignored`` is None where nothing is."""
    pieces = _pieces(candidates, boxes)
    kept = [_overlaps(boxes, present, piece) for piece in pieces] if _are_few(candidates, boxes) else []
    summaries = [_summary(piece) for piece in kept or (_overlaps(boxes, present, piece) for piece in pieces)]
    best, matched, records = (list(part) for part in zip(*summaries, strict=True))
    positive = [values >= settings.positive_iou for values in best]
    if settings.keep_best:
        record = torch.stack(records).amax(0)  # [B, G, 1]
        for number, piece in enumerate(pieces):
            overlaps = kept[number] if kept else _overlaps(boxes, present, piece)
            positive[number] = positive[number] | ((overlaps == record) & (record > 0)).any(1)
    far, close = torch.cat(best, 1), torch.cat(positive, 1)
    negative = (far < settings.negative_iou) & ((far >= settings.negative_floor) | (far < 0)) & ~close
    if ignored is not None:
        negative = negative & ~torch.cat([_in_ignored(piece, boxes, ignored) for piece in pieces], -1)
    return Matches(close, negative, torch.cat(matched, 1))


def _overlaps(boxes: Tensor, present: Tensor, candidates: Tensor) -> Tensor:
    """IoU [B, G, n]; -1 where a slot holds no object."""
    return torch.where(present[..., None], iou(boxes, candidates), -1.0)


def _summary(overlaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, G, n] -> each candidate's best overlap and whose it is [B, n], and each object's best [B, G, 1]."""
    best, matched = overlaps.max(1)
    return best, matched, overlaps.amax(2, keepdim=True)


def _in_ignored(candidates: Tensor, boxes: Tensor, ignored: Tensor) -> Tensor:
    covered = coverage(candidates, boxes) >= IGNORED_COVERAGE  # [B, n, G]
    return (covered & ignored[:, None]).any(2)


def _are_few(candidates: Tensor, boxes: Tensor) -> bool:
    return _pairs(candidates, boxes) <= KEPT_PAIRS


def _pairs(candidates: Tensor, boxes: Tensor) -> int:
    slots = COMPILED_SLOTS if torch.compiler.is_compiling() else boxes.shape[1]
    return len(boxes) * slots * candidates.shape[1]


def _pieces(candidates: Tensor, boxes: Tensor) -> list[Tensor]:
    """Candidates cut so that few enough pairs are held at once."""
    small = candidates.device.type == "cpu" and not torch.compiler.is_compiling()
    count = max(1, -(-_pairs(candidates, boxes) // (PROCESSOR_PAIRS if small else DEVICE_PAIRS)))
    total = candidates.shape[1]
    return [candidates[:, total * i // count : total * (i + 1) // count] for i in range(count)]
