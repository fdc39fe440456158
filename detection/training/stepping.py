"""What is the same in training detectors and segmenters: the optimizer, its step, and which weights are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from backbones.running.training_state import TrainingState
from detection.training.finite import FiniteWatch


def make_sgd(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """SGD with momentum from zero, so that a first step which is left out leaves it defined."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.0, momentum=0.9, weight_decay=weight_decay, fused=True)
    for parameter in learned:
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def take_step(
    state: TrainingState, watch: FiniteWatch, losses: dict[str, Tensor], numbers: Sequence[int], clip_norm: float
) -> None:
    """One step of the optimizer, which a loss or gradient that is not finite leaves out, and of the weights' average.

    Args:
        state: with gradients, scaled as its scaler scales.
        watch: told of the step.
        losses: that the gradients are of.
        numbers: the pictures of this process.
        clip_norm: limit on the norm of the gradient; 0 for none.

    Raises:
        InputError: this step, or one since the watch last asked, was not finite.
    """
    scaled = state.scaler.is_enabled()
    if scaled:
        state.scaler.unscale_(state.optimizer)
    learned = [parameter for parameter in state.model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in learned if parameter.grad is not None])
    left_out = watch.note(state.step, losses, None if scaled else norm, numbers)
    if clip_norm:
        nn.utils.clip_grads_with_norm_(learned, clip_norm, norm)
    if not scaled:  # fp16's scaler sets the same attribute itself
        state.optimizer.found_inf = left_out  # type: ignore[attr-defined]
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average:
        state.average.update()


def note_marks(state: TrainingState, metrics: Mapping[str, float], metric: str) -> bool:
    """Whether the weights are to be kept: no earlier ones were better by ``metric``, or it is ``last``.

    The state's notes have the best marks so far, and how many evaluations have passed since.
    """
    notes = state.notes
    if metric == "last" or metrics[metric] > notes.get("best", {}).get(metric, -2.0):
        state.notes = {"best": {"step": state.step, **metrics}, "waited": 0}
        return True
    state.notes = {**notes, "waited": notes["waited"] + 1}
    return False


def waited_enough(state: TrainingState, patience: int) -> bool:
    """Whether the patience with weights that get no better is at its end; 0 is endless."""
    return 0 < patience <= int(state.notes.get("waited", 0))
