"""Splits that are made are written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detection.data.splits import write_splits
from tests.detection.builders import data_of


def test_made_splits_are_written_and_others_are_not(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    own = data_of([picture] * 2, [[], []])
    made = replace(own, made_split=True)
    write_splits(tmp_path, {"train": made, "val": own, "test": None})
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["train.txt"]
    assert (tmp_path / "splits" / "train.txt").read_text() == "1.png\n2.png\n"
