"""What changes while a run goes on: weights, the optimizer's memory, means of losses, a moving average."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from backbones.running import distributed
from backbones.running.checkpoint import save_checkpoint
from backbones.running.run_folder import WEIGHTS
from backbones.weights.model_file import read_metadata

Item = TypeVar("Item")


class Meter:
    """Means of losses between two log lines: adds up on the device, which waits only when they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._losses: tuple[str, ...] = ()
        self._steps = 0
        self._restart_clock()

    def add(self, losses: dict[str, Tensor], others: dict[str, Tensor]) -> None:
        """Count one step's losses, and other quantities to average, each a scalar."""
        self._losses = tuple(losses)
        for name, value in (losses | others).items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._steps += 1
        self._timed_steps += 1

    def timed(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on, counting how long they keep the loop waiting."""
        iterator = iter(items)
        while True:
            begun = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - begun
            yield item

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside (an evaluation, a checkpoint) is no training time."""
        begun = time.perf_counter()
        yield
        self._begun += time.perf_counter() - begun

    def read(self, batch_size: int) -> tuple[dict[str, float], dict[str, float]]:
        """Means over all processes since the last reading, and the clock's side of it; starts anew.

        Returns:
            the sum of the losses as ``loss``, and everything by name; and ``images_per_second``, ``waiting`` (the
            share of time spent waiting for data).
        """
        names = list(self._sums)
        means = distributed.mean_over_processes(torch.stack([self._sums[name] for name in names])) / max(1, self._steps)
        values = dict(zip(names, means.tolist(), strict=True))
        passed = time.perf_counter() - self._begun
        clock = {
            "images_per_second": round(self._timed_steps * batch_size / passed, 2),
            "waiting": round(self._waited / passed, 3),
        }
        self._sums, self._steps = {}, 0
        self._restart_clock()
        return {"loss": sum(values[name] for name in self._losses), **values}, clock

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs so that a resumed run logs the same means: the mean of all processes' sums, which
        each of them restores. All processes call it together."""
        sums = {name: distributed.mean_over_processes(value).cpu() for name, value in self._sums.items()}
        return {"sums": sums, "losses": list(self._losses), "steps": self._steps}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """The inverse of ``state``."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._losses, self._steps = tuple(state["losses"]), state["steps"]

    def _restart_clock(self) -> None:
        self._begun = time.perf_counter()
        self._waited, self._timed_steps = 0.0, 0


class WeightAverage:
    """An exponential moving average of what a model learns: its parameters, and the statistics of batch normalization.

    It often scores better than the weights that are trained.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.

    Args:
        model: on its device; what learns nothing is left out.
        decay: below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = _changing(model)
        self._means = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights in, once after each step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self._means.values()), list(self._live.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        trained = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self._write(self._means)
        try:
            yield
        finally:
            self._write(trained)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"updates": self.updates, "means": self._means}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.updates = state["updates"]
        for name, mean in self._means.items():
            mean.copy_(state["means"][name])

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._live.items():
            tensor.copy_(values[name])


def _changing(model: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {name: value for name, value in model.named_parameters() if value.requires_grad}
    for prefix, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            found |= {f"{prefix}.{n}": b for n, b in module.named_buffers() if b.is_floating_point()}
    return found


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

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """The inverse of ``save``: take over what it wrote, as ``load_checkpoint`` reads it."""
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

    Before format 3 only detection and segmentation said so, by their settings alone; of classification the weights that
    lie beside the state do.

    Raises:
        InputError: the state does not say, or a newer version wrote it.
    """
    about = state.get("about") or {}
    if "format" in about:
        return ModelMetadata.from_dict(about, origin)
    task = "detection" if "anchors" in about else "segmentation" if "output_stride" in about else None
    if task is None:
        weights = Path(str(origin)).with_name(WEIGHTS)
        if not weights.is_file():
            raise InputError(
                f"{origin}: a training state of an older version, which does not say what its model is; and no "
                f"{weights} lies beside it that does"
            )
        return replace(read_metadata(weights), sha256=None)
    return ModelMetadata(task=task, architecture=about, classes=tuple(about["classes"]))


def state_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a saved state by which its run is scored: the moving average's where one is kept."""
    weights: dict[str, Tensor] = dict(state["model"])
    return {**weights, **state["average"]["means"]} if state.get("average") else weights
