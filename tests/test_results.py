"""README's tables say what results/ holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from results import tables
from results.machines import machine

ROOT = Path(__file__).resolve().parents[1]
MEASURED = [path for path in sorted((ROOT / "results").glob("*.json")) if path.stem != "not_run"]


def test_tables_equal_results() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "results" / "tables.py"), "--check"], capture_output=True)
    assert done.returncode == 0, "README.md differs from results/; run `make results`"


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_each_result_says_where_it_comes_from(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["results"]
    for name in ("what", "command", "date", "environment"):
        assert result[name], f"{path.name} lacks {name}"
    assert result["environment"]["commit"]


NEW = {"processor": "A CPU, 2 cores", "instructions": ["avx2", "avx512_vnni", "amx_bf16"], "gpu": None}
CARD = {"gpu": "A card", "gpu_memory_gib": 79.6}


@pytest.mark.parametrize(
    ("environment", "settings", "shown"),
    [
        (NEW, {}, "A CPU, 2 cores (AMX bf16, AVX-512 VNNI)"),
        (NEW | {"instructions": ["avx2"]}, {}, "A CPU, 2 cores (no bf16 or int8 instructions)"),
        (NEW | {"instructions": None}, {}, "A CPU, 2 cores"),
        (
            {"processor": "An old CPU", "bf16_instructions": True, "gpu": None},
            {},
            "An old CPU (with bf16 instructions)",
        ),
        ({"processor": "An old CPU", "bf16_instructions": False}, {}, "An old CPU (without bf16 instructions)"),
        ({"processor": "Unknown"}, {}, "Unknown"),
        (NEW | CARD, {"device": "cuda"}, "A card, 80 GiB"),
        (NEW | CARD, {"device": "cpu"}, "A CPU, 2 cores (AMX bf16, AVX-512 VNNI)"),
        ({"processor": "A CPU", "gpu": "An old card"}, {}, "An old card"),
    ],
)
def test_tables_name_the_machine_as_far_as_the_file_does(
    environment: dict[str, Any], settings: dict[str, Any], shown: str
) -> None:
    assert machine(measured([], environment, settings)) == f"{shown}, torch 2.11, 2026-01-02."


def test_each_machine_and_day_is_named_once() -> None:
    here, there = measured([], NEW), measured([], {"processor": "Another"})
    assert machine(here, there, here) == (
        "A CPU, 2 cores (AMX bf16, AVX-512 VNNI), torch 2.11, 2026-01-02; Another, torch 2.11, 2026-01-02."
    )


def measured(results: Any, environment: dict[str, Any] = NEW, settings: Any = None, **more: Any) -> dict[str, Any]:
    """A file as ``write_measurement`` writes it."""
    place = environment | {"versions": {"torch": "2.11"}}
    return {"results": results, "environment": place, "date": "2026-01-02", "settings": settings or {}} | more


def test_the_speed_table_has_a_row_for_each_pair_of_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    ratio = {"median": 0.754, "min": 0.7, "max": 0.8}
    row = {"size": [480, 640], "batch": 2, "precision": "bf16", "their_precision": "fp32"}
    rows = [
        row | {"training step": {"ratio": ratio}, "inference": {"ratio": ratio, "target": 0.7, "met": False}},
        row | {"their_precision": "bf16", "inference": {"ratio": ratio, "target": 0.8, "met": True}},
    ]
    monkeypatch.setattr(tables, "load", {"faster_rcnn_speed_cpu": measured(rows, settings={"pairs": 5})}.__getitem__)
    _, _, first, second, _, note = tables.speed_table()
    same = "0.75 (0.70 to 0.80)"
    assert first == f"| 480 x 640 pixels | 2 | bf16 | fp32 | {same} | {same}, target 0.7 missed |"
    assert second == f"| 480 x 640 pixels | 2 | bf16 | bf16 |  | {same}, target 0.8 reached |"
    assert note.startswith("Median of 5 turns of each") and "AMX bf16" in note


def test_our_classifiers_stand_beside_the_fastest_peer_of_their_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = ("net torch", "slow, fp32, a", "fast, fp32, b", "other, bf16, c")

    def found(name: str, precision: str, *times: float) -> dict[str, Any]:
        ratios = {side: dict.fromkeys(("median", "min", "max"), time) for side, time in zip(sides, times, strict=True)}
        more = {"batch": 1, "p50": 5.0, "times_faster": ratios, "target": None, "met": None, "accuracy": {"top1": 0.9}}
        return {"name": name, "precision": precision, **more}

    rows = [
        found("net torch", "fp32", 1.0, 0.9, 0.5, 0.1),
        found("net.onnx openvino", "fp32", 2.0, 1.8, 1.1, 0.2),
        found("fast, fp32, b", "fp32", 1.9, 1.7, 1.0, 0.2),
        found("slow, fp32, a", "fp32", 1.1, 1.0, 0.6, 0.2),
        found("other, bf16, c", "bf16", 9.0, 9.0, 5.0, 1.0),
    ]
    file = measured({"classification": rows}, left_out={"timm, fp32, torch.compile": "no compiler"})
    monkeypatch.setattr(tables, "load", {"deploy_speed_cpu": file}.__getitem__)
    table = tables.deployed_speed_table()
    assert table[2] == "| ours, fp32, torch | 1 | 5.0 | 1.00 (1.00 to 1.00) |  | 90.0% |"
    assert table[3] == "| ours, fp32, openvino | 1 | 5.0 | 2.00 (2.00 to 2.00) | 1.10 (1.10 to 1.10) | 90.0% |"
    assert table[4] == "| fast, fp32, b | 1 | 5.0 | 1.90 (1.90 to 1.90) |  | 90.0% |"
    assert "| timm, fp32, torch.compile |  | does not run here: no compiler |  |  |  |" in table
