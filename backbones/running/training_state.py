"""What changes while a run goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
        about: plain values by which the model can be built again.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    meter: Meter = field(default_factory=Meter)
    step: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    average: WeightAverage | None = None
    about: dict[str, Any] = field(default_factory=dict)

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
            "about": self.about,
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
