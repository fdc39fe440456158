"""The per-pixel mean: exact, kept, and shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.convention import InputConvention
from backbones.data.folders import read_folder
from backbones.framing import frame_for_classifier
from backbones.images import read_image
from backbones.pretraining.data import mean_picture
from backbones.running.keyed_random import generator
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(7):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator(number).integers(0, 256, (50 + number, 60, 3)).astype(np.uint8)).save(path)
    return tmp_path / "pictures"


def test_means_are_those_of_the_crops(folder: Path) -> None:
    convention = InputConvention((0, 0, 0), (1, 1, 1), size=(32, 32), resize=40)
    crops = [frame_for_classifier(read_image(path), convention) for path in sorted(folder.rglob("*.png"))]
    mean = mean_picture(read_folder(folder), 32, 40)
    assert mean.images == 7
    assert np.allclose(mean.picture.permute(1, 2, 0).numpy(), np.mean(crops, 0), atol=1e-4)
    assert np.allclose(mean.std.numpy(), np.std(np.stack(crops).astype(float), (0, 1, 2)), atol=1e-3)


def test_a_mean_is_kept_until_the_data_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mean_picture(read_folder(folder), 32, 40, images=5)
    monkeypatch.setattr("backbones.pretraining.data._measure", lambda *_: pytest.fail("measured again"))
    again = mean_picture(read_folder(folder), 32, 40, images=5)
    assert np.array_equal(first.picture, again.picture)
    assert again.images == 5
    (folder / "a" / "0.png").unlink()
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        mean_picture(read_folder(folder), 32, 40, images=5)


def test_the_command_shows_the_mean(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "backbones" / "prepare.py"), "mean", "--quiet"]
    arguments = ["--dataset", f"folder:{folder}", "--split", "all", "--output", str(tmp_path / "mean.png")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert "mean.png: " in done.stdout
    assert "mean of each channel: 12" in done.stdout
    assert read_image(tmp_path / "mean.png").shape == (224, 224, 3)
    refused = subprocess.run([*command, "--dataset", "digits"], capture_output=True, text=True, check=False)
    assert (refused.returncode, "lies in memory" in refused.stderr) == (1, True)
