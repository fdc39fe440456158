"""One measurement of a tour: what it is, where it runs, and the file that keeps what it finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from backbones.errors import InputError
from backbones.running.atomic_write import write_json
from backbones.running.measurement import write_measurement

Value = TypeVar("Value")
RESULTS = "results"
"""The folder of a tour's output with one file for each item."""


@dataclass(frozen=True)
class Place:
    """Where items run.

    Attributes:
        device: ``cuda``, or ``cpu`` to rehearse.
        data: folder laid out as the tour's docstring says.
        output: of the tour; items run with it as their working folder, so that no path outside gets into a file.
        tiny: rehearse: everything runs, in sizes that say nothing.
        commit: the revision, for a checkout without its history.
        backend: of ``torch.compile`` in a rehearsal; ``none`` compiles nothing.
    """

    device: str
    data: Path
    output: Path
    tiny: bool = False
    commit: str = ""
    backend: str = "none"

    def size(self, full: Value, tiny: Value) -> Value:
        """One of two sizes."""
        return tiny if self.tiny else full

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)


@dataclass(frozen=True)
class Finding:
    """What an item found, in a line, and whether its target was reached; None without a target."""

    summary: str
    reached: bool | None = None


@dataclass(frozen=True)
class Item:
    """One measurement.

    Attributes:
        name: of its file and its line in the table.
        what: is measured, for readers.
        target: in words; empty for none.
        limit: seconds after which its process is ended.
        least: seconds below which it is not worth starting.
        measure: does it, in a process of its own.
        needs: folders of the data without which it can't run.
        goes_on: an ended process has left a state from which the next one goes on.
        obstacle: why it can't run here; empty if it can.
        kept_as: where under ``results/`` it is kept; by default ``gpu_NAME.json``.
    """

    name: str
    what: str
    target: str
    limit: float
    least: float
    measure: Callable[[Place, Record], Finding]
    needs: tuple[str, ...] = ()
    goes_on: bool = False
    obstacle: Callable[[Place], str] | None = None
    kept_as: str = ""

    def file(self, output: Path) -> Path:
        return output / RESULTS / f"{self.name}.json"

    def done(self, output: Path) -> bool:
        """Whether everything of it is measured."""
        about = read_json(self.file(output))
        return about.get("complete") is True and about.get("item") == self.name and "summary" in about

    def missing(self, place: Place) -> str:
        """Why it can't run there; empty if it can."""
        absent = [name for name in self.needs if not (place.data / name).is_dir()]
        if absent:
            return f"no data: {', '.join(absent)}"
        return self.obstacle(place) if self.obstacle else ""


class Record:
    """The file of one item, written anew after every number; numbers that it holds are not measured again.

    Numbers of another card are forgotten: one file says one thing of one card.

    Args:
        item: whose.
        place: where it runs.
    """

    def __init__(self, item: Item, place: Place) -> None:
        self.item, self.place, self.path = item, place, item.file(place.output)
        known = read_json(self.path)
        same = known.get("environment", {}).get("gpu") == card(place)
        self.results: Any = known.get("results", {}) if same else {}

    def once(self, part: str, function: Callable[[], Any]) -> Any:
        """What was measured under a name, now or in an earlier tour."""
        if part not in self.results:
            self.results[part] = function()
            print(f"{part}: {self.results[part]}", flush=True)
            self.write(complete=False)
        return self.results[part]

    def finish(self, finding: Finding) -> None:
        """Everything is measured."""
        self.write(complete=True, summary=finding.summary, reached=finding.reached)

    def write(self, **more: Any) -> None:
        write_measurement(
            self.path, what=self.item.what, results=self.results, item=self.item.name, target=self.item.target,
            command="python tests/benchmarks/gpu_tour.py --minutes 9 --data DIR --output DIR",
            **({"rehearsal": True} if self.place.tiny else {}), **more,
        )  # fmt: skip
        about = read_json(self.path)
        if not about["environment"]["commit"]:
            about["environment"]["commit"] = self.place.commit
            write_json(self.path, about)


def card(place: Place) -> str | None:
    """The GPU's name, as ``environment`` has it."""
    return torch.cuda.get_device_name() if place.device == "cuda" else None


def read_json(path: Path) -> dict[str, Any]:
    """A file's content; nothing where there is none.

    Raises:
        InputError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: damaged ({' '.join(str(error).split())}); delete it, and it is made again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged (no JSON object); delete it, and it is made again")
    return content
