"""What a run ran on: versions, machine, revision."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "torchvision", "numpy", "pillow", "pycocotools", "onnx", "onnxruntime", "openvino", "tensorrt",
    "tensorrt-rtx", "timm",
)  # fmt: skip
INSTRUCTIONS = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "amx_fp16", "bf16", "i8mm", "asimdhp",
)  # fmt: skip
"""Those that decide how fast a processor multiplies in each precision, by Linux' names; the last three are ARM's."""
CPUINFO = Path("/proc/cpuinfo")


def describe_environment() -> dict[str, Any]:
    """Plain values for ``env.json`` and ``results/``; nothing that names the user or the machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor_name(),
        "instructions": processor_instructions(),
        "threads": _threads(),
        **describe_card(),
        "versions": versions,
        "commit": commit(),
    }


def _threads() -> int | None:
    """Of torch; of the processor, where torch is not installed."""
    if find_spec("torch") is None:
        return os.cpu_count()
    import torch

    return torch.get_num_threads()


def describe_card() -> dict[str, Any]:
    """The GPU of this process: ``gpu`` is its name, or None where torch sees none or is not installed."""
    if find_spec("torch") is None:
        return {"gpu": None}
    import torch

    if not torch.cuda.is_available():
        return {"gpu": None}
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": card.name,
        "gpu_memory_gib": round(card.total_memory / 2**30, 1),
        "gpu_capability": f"{card.major}.{card.minor}",
        "gpus": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
    }


def processor_name() -> str:
    """The processor's own name where the system tells it."""
    name = _cpuinfo().get("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def processor_instructions() -> list[str] | None:
    """Which of ``INSTRUCTIONS`` the processor has; None where the system does not tell."""
    about = _cpuinfo()
    listed = about.get("flags") or about.get("Features")
    if listed is None:
        return None
    found = set(listed.split())
    return [name for name in INSTRUCTIONS if name in found]


def _cpuinfo() -> dict[str, str]:
    """The first core's lines of ``/proc/cpuinfo``; empty where there is none."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def commit() -> str | None:
    """The revision of the checkout, with a plus sign if files are changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"],
            cwd=root, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
