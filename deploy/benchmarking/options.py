"""The options of ``deploy/benchmark.py``. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.errors import InputError
from backbones.running.command_line import OutputOptions, option
from deploy.engine_names import HINTS


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(OutputOptions):
    """What is measured, on what, and for how long."""

    model: tuple[str, ...] = option((), "exported files, run folders or .safetensors files", group="models",
                                    metavar="FILE")  # fmt: skip
    against: str | None = option(None, "the model that the others are compared with", group="models", metavar="FILE",
                                 otherwise="the first")  # fmt: skip
    engine: tuple[str, ...] = option((), "engines that run each file that they can; torch runs trained models",
                                     group="models", otherwise="the best that is installed, of each")  # fmt: skip
    batch: tuple[int, ...] = option((1, 8), "images at once", group="input", metavar="N")
    size: tuple[int, ...] | None = option(None, "height and width", group="input", metavar="N",
                                          otherwise="the model's own")  # fmt: skip
    images: str | None = option(None, "a folder of pictures to fill them with", group="input", metavar="DIR",
                                otherwise="noise")  # fmt: skip
    threads: int | None = option(None, "processor threads", group="machine", otherwise="as many as there are cores")
    hint: tuple[str, ...] = option((), "of OpenVINO: latency gives all threads to one batch, throughput divides both; "
                                   "several are measured in turns", group="machine", choices=HINTS,
                                   otherwise="throughput for batches of more than one")  # fmt: skip
    rounds: int = option(10, "turns of each", group="time")
    seconds: float = option(0.5, "that a turn lasts at least", group="time")
    memory: bool = option(True, "measure memory, in a process for each", group="time")
    output: str | None = option(None, "write a JSON file", group="output", metavar="FILE.json")
    plot: str | None = option(None, "draw a figure", group="output", metavar="FILE.png")

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("give --model: exported files, run folders or .safetensors files")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise InputError(f"--size {' '.join(map(str, self.size))}: give a height and a width")
        if not self.batch or min(self.batch) < 1:
            raise InputError("--batch: each must be at least 1")
        for name in ("rounds", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        if not self.seconds > 0:
            raise InputError(f"--seconds {self.seconds}: must be above 0")

    def hints_at(self, batch: int) -> tuple[str, ...]:
        """What OpenVINO is told for batches of a size."""
        return tuple(dict.fromkeys(self.hint)) or ("throughput" if batch > 1 else "latency",)
