"""The options of ``deploy/batch.py``. No torch, no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.errors import InputError
from backbones.running.command_line import CommandOptions, option

FORMATS = ("parquet", "jsonl")
LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class BulkOptions(CommandOptions):
    """Which model, over what, and where detections go."""

    inputs: tuple[str, ...] = option(
        (), "pictures, folders, patterns in quotes, or - for names on standard input", group="data", positional=True
    )
    list: str | None = option(None, "a file of such names, one on each line; - for standard input",
                              group="data", metavar="FILE")  # fmt: skip
    model: str = option("", "an .onnx or .plan file, a run folder or a .safetensors file", group="model")
    engine: str | None = option(None, "that runs it, such as openvino or onnxruntime", group="model",
                                otherwise="the best that is installed")  # fmt: skip
    threshold: float | None = option(None, "least score", group="model",
                                     otherwise="each class's own, if the model has them, or 0.5")  # fmt: skip
    classes: str | None = option(None, "find these only, with commas between them", group="model", metavar="A,B")
    max_detections: int | None = option(None, "at most so many, the best, of each picture", group="model")
    workers: int | None = option(None, "processes that each hold the model", group="machine",
                                 otherwise="as many as processors and --threads allow")  # fmt: skip
    threads: int = option(1, "processors for each of them", group="machine")
    batch_size: int = option(8, "pictures at once", group="machine")
    cluster: str = option(LOCAL, "address of a Ray cluster that sees the same files under the same names",
                          group="machine", metavar="ADDRESS")  # fmt: skip
    output: str = option("found", "folder for parts; a run over one that exists goes on with it", group="output",
                         metavar="DIR")  # fmt: skip
    format: str = option("parquet", "of parts", group="output", choices=FORMATS)
    part_size: int = option(1000, "pictures in a part, or fewer after --part-seconds", group="output")
    part_seconds: float = option(60.0, "a stop loses at most so many seconds of work", group="output")

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("give --model: an .onnx or .plan file, a run folder or a .safetensors file")
        for name in ("workers", "threads", "batch_size", "part_size", "max_detections"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be at least 1")
        if not self.part_seconds > 0:
            raise InputError(f"--part-seconds {self.part_seconds}: must be above 0")
