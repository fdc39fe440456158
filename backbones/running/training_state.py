"""What changes while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from backbones.running import distributed
from backbones.running.checkpoint import load_checkpoint, save_checkpoint
from backbones.running.meter import Meter
from backbones.running.weight_average import WeightAverage


@dataclass
class TrainingState:
    """A run between two steps; a checkpoint holds all of it.

    Attributes:
        model: with all weights and buffers.
        optimizer, scaler: of the weights and, in fp16, of the loss.
        meter: losses since the last log line.
        step: iterations done.
        notes: plain values that the trainer keeps, such as the best metrics so far.
        average: of the weights, if one is kept.
        about: what the model is, by which it can be built again.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    meter: Meter = field(default_factory=Meter)
    step: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    average: WeightAverage | None = None
    about: ModelMetadata | None = None

    def save(self, path: Path) -> None:
        """Write everything, atomically. All processes call it together; the main one writes."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "meter": self.meter.state(),
            "step": self.step,
            "notes": self.notes,
            "average": self.average.state() if self.average else None,
            "about": self.about.to_dict() if self.about else {},
        }
        if distributed.is_main():
            save_checkpoint(path, state)

    def load(self, path: Path, device: torch.device) -> None:
        """The inverse of ``save``."""
        self.restore(load_checkpoint(path), device)

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Take over what ``save`` wrote, as ``load_checkpoint`` reads it."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.meter.restore(state["meter"], device)
        self.step, self.notes = state["step"], state["notes"]
        if self.average:
            self.average.restore(state["average"])


def is_training_state(values: Mapping[str, Any]) -> bool:
    """Whether a torch file holds what ``TrainingState.save`` wrote."""
    return {"model", "optimizer", "scaler", "meter", "step", "notes"} <= values.keys()


def state_metadata(state: Mapping[str, Any], origin: object) -> ModelMetadata:
    """What the model in a saved state is.

    Before format 3 only detection and segmentation said so, by their settings alone.

    Raises:
        InputError: the state does not say, or a newer version wrote it.
    """
    about = state.get("about") or {}
    if "format" in about:
        return ModelMetadata.from_dict(about, origin)
    task = "detection" if "anchors" in about else "segmentation" if "output_stride" in about else None
    if task is None:
        raise InputError(
            f"{origin}: a training state of an older version, which does not say what its model is; "
            f"name the run folder or its model.safetensors"
        )
    return ModelMetadata(task=task, architecture=about, classes=tuple(about["classes"]))


def state_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a saved state by which its run is scored: the moving average's where one is kept."""
    weights: dict[str, Tensor] = dict(state["model"])
    return {**weights, **state["average"]["means"]} if state.get("average") else weights
