"""The report of a classification run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from backbones.data.arrays import LabelledImages
from backbones.report import as_probabilities, confusion, most_confused, worst_mistakes, write_report

CLASSES = ("ant", "<bee>", "cat")
LABELS = np.array([0, 0, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.4, 0.3], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.0, 0.01, 0.99]]
)


def data(count: int = 6) -> LabelledImages:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return LabelledImages(images, LABELS[:count], CLASSES)


def test_probabilities_are_kept_and_logits_become_them() -> None:
    assert as_probabilities(PROBABILITIES) is PROBABILITIES
    logits = np.array([[1000.0, 1000.0, 0.0], [-3.0, -3.0, -3.0]], dtype=np.float32)
    assert as_probabilities(logits) == pytest.approx(np.array([[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]]))


def test_confusion_counts_pictures_by_class_and_guess() -> None:
    counts = confusion(PROBABILITIES.argmax(1), LABELS, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 1, 1]]
    assert next(iter(most_confused(counts, CLASSES).items())) == ("ant taken for <bee>", "1 of 2 (50.0%)")
    assert most_confused(np.diag([3, 2, 1]), CLASSES) == {}


def test_the_worst_mistake_gave_the_right_class_the_least() -> None:
    assert worst_mistakes(PROBABILITIES, LABELS).tolist() == [3, 4, 1]


def test_the_report_is_one_file_with_plots_beside_it(tmp_path: Path) -> None:
    records = [
        {"step": 1, "learning_rate": 0.1, "loss": 1.0, "cross_entropy": 0.9, "train_error": 50.0, "time": {"x": 1}},
        {"step": 2, "top1_error": 40.0, "top5_error": 1.0},
    ]
    path = tmp_path / "report.html"
    write_report(path, "A <run>", records, {"recipe": "paper"}, np.log(PROBABILITIES + 1e-9), data())
    text = path.read_text()
    assert "A &lt;run&gt;" in text and "<bee>" not in text
    assert "50.00 %" in text and "cat taken for ant" in text and "recipe" in text
    assert not re.search(r"(src|href)='(?!data:)", text)
    plots = {"losses.png", "errors.png", "learning_rate.png", "confusion.png", "classes.png"}
    assert {file.name for file in (tmp_path / "plots").iterdir()} == plots


def test_a_faultless_model_and_no_records_make_a_report_too(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", "t", [], {}, np.eye(3)[LABELS], data())
    assert "None: every picture is right." in (tmp_path / "report.html").read_text()


def test_pictures_of_any_size_are_shown_and_many_classes_get_no_matrix(tmp_path: Path) -> None:
    class Mixed:
        labels = LABELS
        classes = tuple(f"class {number}" for number in range(40))

        def picture(self, number: int) -> np.ndarray:
            return np.full((8, 12, 3) if number % 2 else (700, 400, 3), 90, np.uint8)

    scores = np.zeros((6, 40))
    scores[:, 39] = 5
    write_report(tmp_path / "report.html", "t", [], {}, scores, Mixed())
    assert not (tmp_path / "plots" / "confusion.png").exists()
    assert "class 2 taken for class 39" in (tmp_path / "report.html").read_text()
