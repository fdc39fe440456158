"""Means of losses between two log lines, without making the device wait."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from backbones.running.distributed import mean_over_processes

Item = TypeVar("Item")


class Meter:
    """Adds up losses on their device; reads them when asked."""

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
        means = mean_over_processes(torch.stack([self._sums[name] for name in names])) / max(1, self._steps)
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
        sums = {name: mean_over_processes(value).cpu() for name, value in self._sums.items()}
        return {"sums": sums, "losses": list(self._losses), "steps": self._steps}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """The inverse of ``state``."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._losses, self._steps = tuple(state["losses"]), state["steps"]

    def _restart_clock(self) -> None:
        self._begun = time.perf_counter()
        self._waited, self._timed_steps = 0.0, 0
