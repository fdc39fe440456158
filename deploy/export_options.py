"""The options of ``deploy/export.py``. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.running.command_line import CommandOptions, option


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CommandOptions):
    """What to export, and where to."""

    model: str = option(
        "", "a run folder, a .safetensors file, or another project's file or published name", group="model"
    )
    arch: str | None = option(None, "the network, for classifier files that do not say", group="model")
    format: str = option("onnx", "of the exported file", group="export", choices=("onnx",))
    images: str | None = option(
        None, "a folder of pictures to verify with; by default two photographs and digit scenes", group="export",
        metavar="DIR",
    )  # fmt: skip
    output: str | None = option(None, "the file (by default model.onnx beside the weights)", group="output")
