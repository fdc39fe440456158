"""The machine of a measurement, as the tables name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = {
    "amx_bf16": "AMX bf16", "amx_fp16": "AMX fp16", "amx_int8": "AMX int8", "avx512_bf16": "AVX-512 bf16",
    "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "bf16": "bf16", "i8mm": "int8",
}  # fmt: skip
"""Instructions for bf16 and int8 products: by them figures of two processors differ most."""


def machine(*measured: Mapping[str, Any]) -> str:
    """Where and when results were measured; each machine and day once."""
    return "; ".join(dict.fromkeys(_place(result) for result in measured)) + "."


def _place(result: Mapping[str, Any]) -> str:
    environment = result["environment"]
    on_card = environment.get("gpu") and result.get("settings", {}).get("device") != "cpu"
    where = card(environment) if on_card else processor(environment)
    return f"{where}, torch {environment['versions']['torch']}, {result['date']}"


def card(environment: Mapping[str, Any]) -> str:
    """A GPU with its memory, as far as the file says."""
    memory = environment.get("gpu_memory_gib")
    return f"{environment['gpu']}, {memory:.0f} GiB" if memory else str(environment["gpu"])


def processor(environment: Mapping[str, Any]) -> str:
    """A processor with its instructions, as far as the file says: older ones say yes or no for bf16, or nothing."""
    listed = environment.get("instructions")
    if listed is not None:
        shown = [SHOWN[name] for name in SHOWN if name in listed]
        told = ", ".join(shown) or "no bf16 or int8 instructions"
    elif "bf16_instructions" in environment:
        told = f"{'with' if environment['bf16_instructions'] else 'without'} bf16 instructions"
    else:
        return str(environment["processor"])
    return f"{environment['processor']} ({told})"
