"""What every tab works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.model.finders import Finder
from demo.safety.limits import Limits
from demo.view.result_files import ResultFiles

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MODEL_CALL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
"""Of every event that asks a model: one at a time on the whole page."""
VIEW_CALL: dict[str, Any] = {"concurrency_id": "view", "concurrency_limit": 4, "api_visibility": "private"}
"""Of events that only draw again; they do not wait for the model."""


@dataclass(frozen=True)
class Service:
    """Opened models and limits.

    Attributes:
        finders: detectors, by name.
        classifiers: by name.
        limits: of every request.
        files: where results are written.
        segmenters: by name.
    """

    finders: dict[str, Finder]
    classifiers: dict[str, Finder]
    limits: Limits
    files: ResultFiles
    segmenters: dict[str, Finder] = field(default_factory=dict)
