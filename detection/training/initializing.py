"""Another task's model as the start of a new one: what fits is copied, classes by their names."""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import Tensor

from backbones.resnet import CAFFE_POOL

logger = logging.getLogger("shortcut")
_ROWS = {
    "predictor.classes": (1, 1), "predictor.deltas": (0, 4), "masks.logits": (0, 1),
    "head.classes": (0, 1), "auxiliary.classes": (0, 1),
}  # fmt: skip
"""Layers with rows for each class: how many come before the first class (a detector's background), how many each class
has. A segmenter's background is one of its classes."""
_SHOWN = 6


class Model(Protocol):
    """A detector or a segmenter."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool) -> object: ...


def copy_weights(source: Model, target: Model, origin: str) -> None:
    """Copy every tensor that fits, and of the layers with classes the rows of those that both know, in place.

    Two lines say what was taken: classes that are new or were not wanted, and tensors that did not fit.

    Args:
        source: to copy from.
        target: freshly made, for its own classes.
        origin: where ``source`` comes from, for messages.
    """
    given, wanted = source.state_dict(), target.state_dict()
    known = {name.casefold(): label for label, name in enumerate(source.classes)}
    pairs = [(known[n.casefold()], label) for label, n in enumerate(target.classes) if n.casefold() in known]
    taken = {name: tensor for name, tensor in given.items() if name.endswith(CAFFE_POOL)}
    for name, fresh in wanted.items():
        if name not in given:
            continue
        layer = name.rpartition(".")[0]
        if layer in _ROWS and given[name].shape[1:] == fresh.shape[1:]:
            taken[name] = _rows_by_class(given[name], fresh, pairs, *_ROWS[layer])
        elif layer not in _ROWS and given[name].shape == fresh.shape:
            taken[name] = given[name]
    target.load_state_dict(taken, strict=False)
    left = [n for n in (wanted | given) if n not in taken and not n.endswith("num_batches_tracked")]
    logger.info(
        "weights: %d of %d tensors from %s%s", len(taken), len(taken) + len(left), origin,
        f"; not taken: {_listed(left)}" if left else "",
    )  # fmt: skip
    fresh_classes = [name for name in target.classes if name.casefold() not in known]
    logger.info(
        "classes: %d of %d are known to it%s", len(pairs), len(target.classes),
        f"; new: {_listed(fresh_classes)}" if fresh_classes else "",
    )  # fmt: skip


def _rows_by_class(given: Tensor, fresh: Tensor, pairs: list[tuple[int, int]], before: int, each: int) -> Tensor:
    rows = fresh.clone()
    rows[:before] = given[:before]
    for theirs, ours in pairs:
        rows[before + ours * each : before + (ours + 1) * each] = given[before + theirs * each :][:each]
    return torch.as_tensor(rows)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
