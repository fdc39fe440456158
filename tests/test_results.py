"""README's tables say what results/ holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
