"""The engines that run exported files, a row each; nothing here imports one.

Another engine is a row here, a file of its session in ``deploy.runtimes``, and an extra in ``pyproject.toml``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Engine:
    """What runs a kind of file.

    Attributes:
        suffix: of its files.
        session: ``module:class``, called with a path and those of ``threads`` and ``hint`` that it takes.
        takes: which of them.
        packages: any one of which it needs; none where the session itself says what a file wants.
        verifies: precisions of exports that it is able to run, and which it is asked to compare.
    """

    suffix: str
    session: str
    takes: tuple[str, ...]
    packages: tuple[str, ...]
    verifies: tuple[str, ...]


TABLE = {
    "openvino": Engine(
        ".onnx", "deploy.runtimes.openvino_runtime:OpenVinoSession", ("threads", "hint"), ("openvino",),
        ("fp32", "fp16", "bf16", "int8"),
    ),
    "onnxruntime": Engine(  # has no bf16 convolution on processors
        ".onnx", "deploy.runtimes.onnx_runtime:OnnxSession", ("threads",), ("onnxruntime",), ("fp32", "fp16", "int8")
    ),
    "tensorrt": Engine(
        ".plan", "deploy.runtimes.tensorrt_runtime:TensorRTSession", (), (), ()
    ),
}  # fmt: skip
"""By name, the preferred one of each kind of file first. No engine here multiplies fp8."""
ENGINES = tuple(TABLE)
SUFFIXES = {row.suffix: tuple(name for name, other in TABLE.items() if other.suffix == row.suffix)
            for row in TABLE.values()}  # fmt: skip
"""The engines of each kind of file."""
HINTS = ("latency", "throughput")
"""Whether all threads work on one picture after the other, or each on its own, in engines that take a hint."""


def takes_hint(engine: str) -> bool:
    """Whether an engine has the two ways of ``HINTS``; torch has one."""
    return engine in TABLE and "hint" in TABLE[engine].takes
