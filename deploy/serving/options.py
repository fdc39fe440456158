"""How models are served. No torch; a command's options may inherit these."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.running.command_line import CommandOptions, option
from deploy.engine_names import ENGINES, HINTS


@dataclass(frozen=True, kw_only=True)
class ServiceOptions(CommandOptions):
    """How models are served."""

    model: tuple[str, ...] = option(
        (), "exported models (.onnx, .plan), or run folders with a model.onnx", group="model"
    )
    name: tuple[str, ...] = option((), "their names", group="model", otherwise="those of the files or folders")
    max_batch_size: int = option(8, "pictures in one batch at most", group="serving")
    instances: int = option(1, "copies of each graph that run at once", group="serving")
    threads: int = option(0, "processor threads of each copy; 0 for all", group="serving")
    hint: str = option(
        "latency", "of OpenVINO: throughput answers many clients at once faster, and one alone slower",
        group="serving", choices=HINTS,
    )  # fmt: skip
    engine: str | None = option(
        None, "what runs the model", group="serving", choices=ENGINES,
        otherwise="the first that is installed and runs the file",
    )  # fmt: skip
    queue_delay: int = option(0, "microseconds that a request waits for others to share its batch", group="serving")
    max_pixels: int = option(50_000_000, "larger pictures are refused before they are decoded", group="serving")
