#!/usr/bin/env python
"""A page in the browser: classes of pictures, and objects in pictures and short videos."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass

from backbones.errors import InputError
from backbones.running.command_line import CommandOptions, option, run_command
from deploy.engine_names import ENGINES

EXAMPLES = (
    "python demo/app.py",
    "python demo/app.py --detector runs/own/model.onnx coco.safetensors --classifier runs/classifier",
    "python demo/app.py --detector http://127.0.0.1:8000/own --auth-file visitors.txt",
)


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


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve the page until SIGTERM or Ctrl-C."""
    return run_command(
        PageOptions, "demo.launching:serve_page", description=__doc__ or "", examples=EXAMPLES, argv=argv
    )


if __name__ == "__main__":
    sys.exit(main())
