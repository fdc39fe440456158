"""The score of the best F1, against trying every threshold, and its way into the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.building import build_backbone
from backbones.errors import InputError
from backbones.weights.model_file import read_model
from backbones.weights.saving import save_weights
from detection.building import load_detector, save_detector
from detection.metrics.thresholds import best_point, best_thresholds
from detection.metrics.voc import ClassCurve
from detection.score_thresholds import store_thresholds
from tests.detection.builders import small_detector


def curve_of(scores: list[float], right: list[bool], objects: int) -> ClassCurve:
    order = np.argsort(-np.array(scores, float), kind="stable")
    hits = np.cumsum(np.array(right, bool)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return ClassCurve(np.array(scores, float)[order], hits / max(objects, 1), precision, objects)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=15), st.integers(0, 5))
def test_no_threshold_is_better(rows: list[tuple[int, bool]], extra: int) -> None:
    scores, right = np.array([row[0] / 10 for row in rows]), np.array([row[1] for row in rows], bool)
    objects = int(right.sum()) + extra
    point = best_point(curve_of(scores.tolist(), right.tolist(), objects))

    def f1(threshold: float) -> float:
        kept = scores >= threshold
        return 2 * (right & kept).sum() / max(kept.sum() + objects, 1)

    best = max(f1(threshold) for threshold in np.arange(0, 1, 0.05))
    if not objects:
        assert (point.threshold, point.f1) == (0.5, -1)
    elif not right.any():
        assert (point.threshold, point.f1) == (0.5, 0)
    else:
        assert point.f1 == pytest.approx(best)
        assert f1(point.threshold) == pytest.approx(best)
        kept = scores >= point.threshold
        higher = [threshold for threshold in np.arange(0.05, 1, 0.1) if threshold > scores[kept].min()]
        assert all(f1(threshold) < best - 1e-9 for threshold in higher)
        assert point.precision == pytest.approx(right[kept].mean())
        assert point.recall == pytest.approx(right[kept].sum() / objects)


def test_thresholds_lie_between_scores() -> None:
    curve = curve_of([0.9, 0.7, 0.7, 0.3], [True, True, False, False], 2)
    assert best_point(curve).threshold == pytest.approx(0.5)
    assert best_point(curve_of([0.8], [True], 1)).threshold == pytest.approx(0.4)
    assert best_thresholds([curve, curve_of([0.9], [True], 0), curve_of([], [], 3)]) == pytest.approx((0.5, 0.5, 0.5))


def test_they_are_stored_beside_untouched_tensors(tmp_path: Path) -> None:
    detector = small_detector(classes=("cat", "dog"))
    file = tmp_path / "model.safetensors"
    save_detector(detector, file, recipe="quick", metrics={"AP": 0.5})
    tensors, before = read_model(file)
    assert store_thresholds(tmp_path, (0.3, 0.6)) == file
    same, after = read_model(file)
    assert all(torch.equal(same[name], tensor) for name, tensor in tensors.items())
    assert list(same) == list(tensors)
    assert after == replace(before, architecture={**before.architecture, "score_thresholds": [0.3, 0.6]})
    assert load_detector(tmp_path).settings.score_thresholds == (0.3, 0.6)
    named = tmp_path / f"model-{(before.sha256 or '')[:8]}.safetensors"  # a name that promises the checksum
    file.rename(named)
    store_thresholds(named, (0.1, 0.2))
    assert load_detector(named).settings.score_thresholds == (0.1, 0.2)
    assert [path.name for path in tmp_path.iterdir()] == [named.name]


def test_they_are_stored_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_detector(small_detector(classes=("cat", "dog")), file)
    content = file.read_bytes()
    with pytest.raises(InputError, match="1 thresholds for 2 classes"):
        store_thresholds(file, (0.5,))
    assert file.read_bytes() == content
    file.write_bytes(content[:-100])
    with pytest.raises(InputError, match="not a complete"):
        store_thresholds(file, (0.5, 0.5))
    with pytest.raises(InputError, match="stored in trained weights"):
        store_thresholds("model.onnx", (0.5,))
    classifier = save_weights(build_backbone("resnet20", 2), tmp_path / "c.safetensors", "resnet20", classes=("a", "b"))
    with pytest.raises(InputError, match="holds a classifier, not a detector"):
        store_thresholds(classifier, (0.5, 0.5))
