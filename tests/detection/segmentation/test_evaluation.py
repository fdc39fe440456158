"""mIoU against a slow, obvious version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from detection.segmentation.evaluation import SegmentationMarks, class_iou, confusion_matrix, evaluate_segmenter
from detection.segmentation.maps import SegmentationMap
from detection.segmentation.settings import IGNORED
from tests.detection.segmentation.builders import CLASSES, data_of


def slow_iou(truths: list[np.ndarray], found: list[np.ndarray], label: int) -> float:
    """Sets of pixels over all images."""
    wanted = {(i, *place) for i, truth in enumerate(truths) for place in np.argwhere(truth == label).tolist()}
    given = {
        (i, *place)
        for i, (truth, labels) in enumerate(zip(truths, found, strict=True))
        for place in np.argwhere((labels == label) & (truth != IGNORED)).tolist()
    }
    return len(wanted & given) / len(wanted | given) if wanted | given else -1.0


def made(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Five images; class 3 is never there but sometimes found, class 4 neither."""
    rng = np.random.default_rng(seed)
    sizes = [(7, 9), (5, 5), (1, 12), (8, 3), (4, 4)]
    truths = [rng.choice([0, 1, 2, IGNORED], size).astype(np.uint8) for size in sizes]
    truths[4][:] = IGNORED
    return truths, [rng.integers(0, 4, size).astype(np.uint8) for size in sizes]


def predictor(found: list[np.ndarray]) -> Any:
    def predict(pictures: Iterable[Any], batch_size: int) -> Iterator[tuple[int, SegmentationMap]]:
        places = [place for place, _ in enumerate(pictures)]
        for place in reversed(places):
            yield place, SegmentationMap(found[place], None)

    return predict


@pytest.mark.parametrize("seed", range(3))
def test_marks_are_those_of_the_slow_version(seed: int) -> None:
    truths, found = made(seed)
    classes = ("background", "a", "b", "c", "d")
    data = data_of([np.zeros((*truth.shape, 3), np.uint8) for truth in truths], truths, classes)
    marks = evaluate_segmenter(predictor(found), data, 2)
    expected = [slow_iou(truths, found, label) for label in range(5)]
    assert list(marks.per_class.values()) == pytest.approx(expected)
    assert expected[3] == 0
    assert expected[4] == -1
    assert marks.metrics["mIoU"] == pytest.approx(np.mean(expected[:4]))
    right = sum(int(((a == b) & (a != IGNORED)).sum()) for a, b in zip(truths, found, strict=True))
    labelled = sum(int((truth != IGNORED).sum()) for truth in truths)
    assert marks.metrics["pixel_accuracy"] == pytest.approx(right / labelled)
    assert marks.confusion.sum() == labelled
    assert marks.image_accuracy[4] == 1
    assert marks.image_accuracy[1] == pytest.approx(
        ((truths[1] == found[1]) & (truths[1] != IGNORED)).sum() / (truths[1] != IGNORED).sum()
    )


def test_processes_count_every_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    truths, found = made(0)
    data = data_of([np.zeros((*truth.shape, 3), np.uint8) for truth in truths], truths, ("background", *"abcd"))
    whole = evaluate_segmenter(predictor(found), data, 2)
    home = "detection.segmentation.evaluation.distributed"
    parts: list[Any] = []
    monkeypatch.setattr(f"{home}.gather_objects", lambda part: parts.append(part) or [part, ({}, {})][:1])
    for share in (range(2), range(2, 5)):
        monkeypatch.setattr(f"{home}.share_of", lambda count, share=share: share)
        mine = [found[image] for image in share]
        with pytest.raises(KeyError):  # the other images' accuracies are elsewhere
            evaluate_segmenter(predictor(mine), data, 2)
    monkeypatch.setattr(f"{home}.gather_objects", lambda part: parts)
    together = evaluate_segmenter(predictor(found[2:]), data, 2)
    assert np.array_equal(together.confusion, whole.confusion)
    assert together.image_accuracy == whole.image_accuracy


def test_perfect_and_empty() -> None:
    truth = np.array([[0, 1, 2, 2]], np.uint8)
    assert class_iou(confusion_matrix(truth, truth, 3)).tolist() == [1, 1, 1]
    nothing = confusion_matrix(np.full((2, 2), IGNORED, np.uint8), np.ones((2, 2), np.uint8), 3)
    assert not nothing.any()
    assert SegmentationMarks(nothing, CLASSES, ()).metrics == {"mIoU": -1, "pixel_accuracy": -1}
