"""What many tests share."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared"))

torch.set_num_threads(1)  # tests run in several processes


@pytest.fixture(autouse=True)
def heard_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever test ran before: commands keep the project's messages from pytest's ``caplog``, and leave it so."""
    monkeypatch.setattr(logging.getLogger("shortcut"), "propagate", True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images, weights and reference results, where they lie beside the checkout."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the reference data in {folder} (or $SHARED_DIR)")
    return folder


@pytest.fixture(scope="session")
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script as a user types it: ``run_script("detection/train.py", "--quiet", cwd=...)``."""

    def run(script: str, *arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / script), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, **settings)

    return run
