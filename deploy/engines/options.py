"""How a TensorRT engine is built. No torch; a command's options may inherit these."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.running.command_line import option

_GROUP = "TensorRT"
_NEEDS_GPU = "; needs a GPU even to build with TensorRT-RTX"
HARDWARE = ("none", "ampere_plus", "same_compute_capability")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What an engine shall hold, and how much the builder may try."""

    library: str | None = option(
        None, "the builder", group=_GROUP, choices=("tensorrt", "tensorrt_rtx"),
        otherwise="TensorRT if it is installed, else TensorRT-RTX",
    )  # fmt: skip
    max_batch: int = option(8, "the largest batch that the engine takes", group=_GROUP)
    usual_batch: int = option(1, "the batch that its kernels are chosen for", group=_GROUP)
    profile_scales: tuple[int, ...] = option(
        (), "shorter sides of pictures; each gets an optimization profile", group=_GROUP,
        otherwise="the paper's test scales, in proportion to the model's own",
    )  # fmt: skip
    timing_cache: str | None = option(
        None, "a file that keeps the timings of kernels, so that the next build is faster", group=_GROUP, metavar="FILE"
    )
    workspace: float | None = option(
        None, "memory in GiB that kernels may take; TensorRT-RTX counts the activations of the largest profile too",
        group=_GROUP, otherwise="all of the GPU's",
    )  # fmt: skip
    optimization_level: int = option(3, "how long the builder searches: 0 to 5", group=_GROUP)
    hardware_compatibility: str = option(
        "none", "GPUs on which the engine runs, besides the one that built it", group=_GROUP, choices=HARDWARE
    )
    version_compatible: bool = option(False, f"later versions of TensorRT may run the engine{_NEEDS_GPU}", group=_GROUP)
    refit: bool = option(False, f"weights can be exchanged in the built engine{_NEEDS_GPU}", group=_GROUP)
    strip_weights: bool = option(
        False, f"leave the weights out; a refit puts them in on the GPU{_NEEDS_GPU}", group=_GROUP
    )
    tf32: bool = option(False, "fp32 convolutions and products with TF32's ten bits: faster, less exact", group=_GROUP)

    @classmethod
    def of(cls, options: Any) -> BuildOptions:
        """These options among those of a command that inherits them."""
        return cls(**{item.name: getattr(options, item.name) for item in fields(cls)})

    def check(self) -> None:
        """Raises:
        InputError: a value is out of its range.
        """
        for name, low, high in (("optimization_level", 0, 5), ("workspace", 0.001, 1024), ("max_batch", 1, 1024)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{_flag(name)} {value}: needs {low} to {high}")

    @property
    def needing_gpu(self) -> list[str]:
        """The given flags with which TensorRT-RTX builds on a GPU only."""
        return [_flag(name) for name in ("version_compatible", "refit", "strip_weights") if getattr(self, name)]

    def command(self, onnx_path: Path, plan_path: Path) -> str:
        """The command line that builds this engine again."""
        words = ["python", "deploy/export.py", "--model", str(onnx_path), "--format", "tensorrt"]
        for item in fields(self):
            value = getattr(self, item.name)
            if value == item.default:
                continue
            words += [_flag(item.name)] + ([] if value is True else [str(v) for v in _several(value)])
        return shlex.join([*words, "--output", str(plan_path)])


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
