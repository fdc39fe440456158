"""What a runtime must offer to the models above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from backbones.metadata import ModelMetadata


class Session(Protocol):
    """A loaded engine: named arrays in, named arrays out. Threads may share it.

    Attributes:
        engine: its name and version, for people.
        metadata: what the export wrote into the file.
        outputs: names, in the file's order.
    """

    @property
    def engine(self) -> str: ...

    @property
    def metadata(self) -> ModelMetadata: ...

    @property
    def outputs(self) -> list[str]: ...

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass."""
        ...


def shapes_of(inputs: Mapping[str, NDArray[Any]]) -> str:
    """For messages: ``images [1, 64, 64, 3], sizes [1, 2]``."""
    return ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
