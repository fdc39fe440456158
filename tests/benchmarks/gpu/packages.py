"""Which packages a tour may use: wheels that travel with it, and in a rehearsal none that the machine will lack."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

from backbones.errors import InputError

ABSENT = (
    "openvino", "fvcore", "iopath", "onnx", "onnxscript", "onnx_ir", "tensorrt", "tensorrt_rtx", "tritonclient",
    "tritonserver", "gradio", "gradio_client", "ray", "pyarrow", "av", "aiohttp", "grpc", "timm",
    "segmentation_models_pytorch", "mmengine", "mmdet", "detectron2", "pytest", "hypothesis", "tensorboard",
    "playwright", "nncf", "polygraphy",
)  # fmt: skip
"""Packages that this project uses somewhere, and that a tour has to do without."""


class _Hiding:
    """A finder that does not find some packages."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, fullname: str, *arguments: Any) -> Any:
        hidden = fullname.partition(".")[0] in ABSENT
        return None if hidden else self._finder.find_spec(fullname, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def hide_absent_packages() -> None:
    """From here on nothing finds a package of ``ABSENT``, as on the machine with the GPU."""
    loaded = sorted(name for name in ABSENT if name in sys.modules)
    if loaded:
        raise RuntimeError(f"imported before it could be hidden: {', '.join(loaded)}")
    sys.meta_path[:] = [_Hiding(finder) for finder in sys.meta_path]


def use_wheels(wheels: Path, site: Path) -> None:
    """Unpack wheels, once, and import from them; what is installed already comes first."""
    for wheel in sorted(wheels.glob("*.whl")):
        if not (site / f"{wheel.name}.unpacked").exists():
            try:
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(site)
            except zipfile.BadZipFile as error:
                raise InputError(f"{wheel}: damaged ({error}); download it again") from error
            (site / f"{wheel.name}.unpacked").touch()
    sys.path.append(str(site.resolve()))
