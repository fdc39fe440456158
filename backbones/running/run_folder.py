"""The folder that a run leaves behind: configuration, environment, metrics, log, report, weights, state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from backbones.errors import InputError
from backbones.running.atomic_write import PARTIAL, write_json, write_text
from backbones.running.environment import describe_environment
from backbones.running.outputs import RUN_CONFIG, Outputs
from backbones.running.outputs import STATE as STATE
from backbones.running.outputs import WEIGHTS as WEIGHTS


class RunFolder:
    """Paths and records of one run; only the main process writes.

    ``config.yaml env.json metrics.jsonl metrics.json log.txt report.html plots/ model.safetensors last.pt``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / STATE
        self.weights = path / WEIGHTS
        self.records = path / "metrics.jsonl"
        self.log = path / "log.txt"
        self.report = path / "report.html"

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], outputs: Outputs | None = None) -> RunFolder:
        """Start a folder.

        Args:
            path: of the folder.
            config: the configuration that the run is started with.
            outputs: what the command reads, and whether it may write among files of others.

        Raises:
            InputError: it holds a run already, or files of something else.
        """
        folder = cls(path)
        folder.refuse_taken(outputs or Outputs())
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_config(config)
        return folder

    def refuse_taken(self, outputs: Outputs) -> None:
        """Make sure that a run may be started in the folder.

        Raises:
            InputError: it holds a run already, or files of something else.
        """
        if (self.path / RUN_CONFIG).exists():
            raise InputError(f"{self.path}: holds a run; go on with it by --resume, or choose another --output")
        outputs.new_folder("--output", self.path)

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Open the folder of a run that was interrupted.

        Raises:
            InputError: there is no run in it.
        """
        if not (path / RUN_CONFIG).exists():
            raise InputError(f"{path}: holds no run to resume (config.yaml is missing)")
        return cls(path)

    def remove_leftovers(self) -> None:
        """Delete what a kill left half-written."""
        for leftover in self.path.glob(f"*{PARTIAL}"):
            leftover.unlink()

    def write_config(self, config: dict[str, Any]) -> None:
        write_json(self.path / "env.json", describe_environment())
        write_text(self.path / RUN_CONFIG, yaml.safe_dump(config, sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """The configuration that the run was started with."""
        with (self.path / RUN_CONFIG).open(encoding="utf-8") as stream:
            return dict(yaml.safe_load(stream))

    def record(self, entry: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``. What depends on the clock belongs under the key ``time``."""
        with self.records.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    def read_records(self) -> list[dict[str, Any]]:
        """All whole lines of ``metrics.jsonl``; a last line cut short by a kill is left out."""
        if not self.records.exists():
            return []
        entries = []
        for line in self.records.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return entries

    def rewind(self, step: int) -> None:
        """Forget the records after ``step``: the resumed run will write them again."""
        kept = [entry for entry in self.read_records() if entry["step"] <= step]
        write_text(self.records, "".join(json.dumps(entry) + "\n" for entry in kept))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_json(self.path / "metrics.json", metrics)
