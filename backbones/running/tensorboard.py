"""TensorBoard files, where TensorBoard is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backbones.running import distributed


class ScalarWriter:
    """Writes numbers over iterations; does nothing without TensorBoard, or on other processes than the main one.

    Args:
        folder: the run folder; files go to ``tensorboard`` in it.
        wanted: False writes nothing.
    """

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._writer: Any = None
        if wanted and distributed.is_main() and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(folder / "tensorboard")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to the curve of each name."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
