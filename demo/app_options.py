"""The options of ``demo/app.py``. No torch, no Gradio."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.errors import InputError
from backbones.running.command_line import CommandOptions, option
from deploy.engine_names import ENGINES


@dataclass(frozen=True, kw_only=True)
class PageOptions(CommandOptions):
    """Which models, for whom, and within which limits."""

    detector: tuple[str, ...] = option(
        (), "run folders, .safetensors, .onnx or .plan files, or servers (http://HOST:PORT/NAME)", group="models",
        metavar="MODEL", otherwise="the newest in runs/, unless another kind is given",
    )  # fmt: skip
    classifier: tuple[str, ...] = option(
        (), "the same, or torchvision://NAME", group="models", metavar="MODEL",
        otherwise="the newest in runs/, unless another kind is given",
    )  # fmt: skip
    segmenter: tuple[str, ...] = option(
        (), "the same", group="models", metavar="MODEL", otherwise="the newest in runs/, unless another kind is given"
    )
    device: str = option("cpu", "of trained models: cpu, cuda or cuda:N", group="models")
    engine: str | None = option(
        None, "of exported ones", group="models", choices=ENGINES, otherwise="the first installed"
    )
    host: str = option("127.0.0.1", "address to listen at; 0.0.0.0 for all", group="network")
    port: int = option(7860, "0 takes a free one", group="network")
    allow_host: tuple[str, ...] = option(
        (), "further names by which visitors may call the page", group="network", metavar="NAME"
    )
    root_path: str = option("", "the page's path behind a proxy, such as /vision", group="network", metavar="PATH")
    auth_file: str | None = option(
        None, "lines of name:password; only these visitors are let in", group="network", metavar="FILE"
    )
    max_upload: float = option(10.0, "megabytes of one file at most", group="limits")
    max_pixels: float = option(25.0, "megapixels of one picture at most, checked before decoding", group="limits")
    max_pictures: int = option(16, "pictures at once", group="limits")
    max_seconds: float = option(10.0, "seconds of a video that are looked at", group="limits")
    max_queue: int = option(16, "visitors that wait; more are told that the queue is full", group="limits")
    keep: int = option(600, "seconds until uploads and results are deleted", group="limits")

    def __post_init__(self) -> None:
        for name in ("max_upload", "max_pixels", "max_pictures", "max_seconds", "max_queue", "keep"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be above 0")
