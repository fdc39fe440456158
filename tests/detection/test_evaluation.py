"""Marks of a model: who is asked what, several processes, pictures one by one, and what is made of it all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as processes
from torch import multiprocessing

from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.detections import Detections
from detection.evaluation import detect_all, diagnose, image_quality, score
from detection.masks.compressed import CompressedMasks, decompress
from detection.report import write_report
from detection.tables import as_json, describe, plain_lines
from tests.detection.scoring_cases import made_case, made_masks


class Found:
    """A model that knows what it will find: pictures are the images' numbers."""

    def __init__(self, found: list[Detections]) -> None:
        self.found = found
        self.asked: list[int] = []

    def predict_each(self, pictures: Any, batch_size: int) -> Iterator[tuple[int, Detections]]:
        asked = list(pictures)
        self.asked += asked
        return ((place, self.found[asked[place]]) for place in reversed(range(len(asked))))


def numbered(annotations: Any) -> DetectionData:
    return DetectionData("made", annotations, range(len(annotations)))  # type: ignore[arg-type]


def test_every_image_is_asked_once_and_answers_find_their_place() -> None:
    annotations, found = made_case(1)
    model, counted = Found(found), []
    result = detect_all(model.predict_each, numbered(annotations), 4, lambda: counted.append(1))
    assert all(a is b for a, b in zip(result, found, strict=True))
    assert (model.asked, len(counted)) == (list(range(12)), 12)


def test_masks_wait_compressed_and_come_out_as_they_were() -> None:
    annotations, found = made_masks(0)
    result = detect_all(Found(found).predict_each, numbered(annotations), 4)
    assert score(result, annotations).metrics == score(found, annotations).metrics
    for part, whole in zip(result, found, strict=True):
        assert isinstance(part.masks, CompressedMasks)
        assert len(part.masks) == len(whole.masks)
        assert (np.asarray(part.masks) == np.asarray(whole.masks)).all()
        chosen = part.scores > 0.4
        assert (np.asarray(part[chosen].masks) == np.asarray(whole.masks)[chosen]).all()


@pytest.mark.parametrize("counts", [b"", b"\x00", b"/", b"0q", b"\xff\xff", b"P" * 7 + b"1", b"PP"])
def test_damaged_masks_are_refused(counts: bytes) -> None:
    with pytest.raises(ValueError, match="not COCO's"):
        decompress(counts)


def _one_of_two(rank: int, place: str) -> None:
    processes.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    for made, images in ((made_case, 5), (made_masks, 5), (made_masks, 1)):
        annotations, found = made(3, images=images)
        model = Found(found)
        result = detect_all(model.predict_each, numbered(annotations), 2)
        assert model.asked == list(range(images // 2) if rank == 0 else range(images // 2, images))
        if rank == 0:
            assert score(result, annotations).metrics == score(found, annotations).metrics
        else:
            assert result == []
    processes.destroy_process_group()


def test_two_processes_count_each_image_once(tmp_path: Path) -> None:
    multiprocessing.spawn(_one_of_two, (str(tmp_path / "meeting"),), nprocs=2)


def test_image_quality_counts_right_wrong_and_missed() -> None:
    builder = AnnotationBuilder(("a",))
    builder.add_object((0, 0, 10, 10), 0)
    builder.add_object((20, 20, 30, 30), 0)
    builder.add_object((50, 50, 60, 60), 0, ignored=True)
    builder.add_image("x", 1, (80, 80))
    builder.add_image("y", 2, (80, 80))
    annotations = builder.build()
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [70, 70, 75, 75]])
    found = Detections(boxes, np.array([0.9, 0.8, 0.7, 0.2]), np.zeros(4, int))
    assert image_quality(found, annotations, 0) == pytest.approx(1 / 3)
    assert image_quality(found, annotations, 0, (0.1,)) == pytest.approx(1 / 4)
    assert image_quality(found.above(2.0), annotations, 1) == 1


def test_tables_fit_and_explain() -> None:
    annotations, found = made_masks(1)
    long = ("a class whose name is much longer than a column", "b")
    annotations = replace(annotations, classes=(*long, "absent"), category_ids=(7, 3, 5))
    evaluation, errors = score(found, annotations), diagnose(found, annotations).errors
    lines = describe(evaluation, errors)
    assert max(map(len, lines)) <= 100
    assert next(line for line in lines if line.startswith("AP_large")).split() == ["AP_large", "none", "none"]
    absent = next(line for line in lines if line.startswith("absent"))
    assert absent.split() == ["absent", "0", *["none"] * 7]
    assert lines[-1] == "none: no ground truth of that kind in this data (-1 in files)"
    assert f"mask_AP        {evaluation.metrics['mask_AP']:.4f}" in plain_lines(evaluation.metrics)
    assert "AP_large       no ground truth" in plain_lines(evaluation.metrics)
    plain = as_json(evaluation, errors)
    assert plain["classes"]["absent"] == {
        "objects": 0, "AP": -1, "AP50": -1, "mask_AP": -1, "threshold": 0.5, "f1": -1, "precision": -1, "recall": -1,
    }  # fmt: skip
    assert plain["errors"]["missed"]["number"] == errors.counts["missed"]
    unmasked = [replace(part, masks=None) for part in found]
    assert "masks" not in "\n".join(describe(score(unmasked, annotations), errors))


def test_classes_are_counted_at_their_best_f1() -> None:
    annotations, found = made_case(2, images=30)
    evaluation = score(found, annotations)
    kept = [part.above(evaluation.best_thresholds) for part in found]
    for marks, curve in zip(evaluation.classes(), score(kept, annotations).curves, strict=True):
        assert marks.best.recall == pytest.approx(curve.recall[-1])
        assert marks.best.precision == pytest.approx(curve.precision[-1])
    assert np.mean([marks.ap50 for marks in evaluation.classes()]) == pytest.approx(evaluation.metrics["AP50"])


@pytest.mark.parametrize("classes", [3, 30])
def test_the_report_shows_what_goes_wrong(classes: int, tmp_path: Path) -> None:
    annotations, found = made_case(0, images=20, classes=classes)
    grey = np.full((400, 500, 3), 128, np.uint8)
    data = DetectionData("made", annotations, [grey] * 20)
    evaluation = score(found, annotations)
    diagnosis = diagnose(found, annotations, evaluation.best_thresholds)
    write_report(tmp_path / "report.html", "Made", evaluation, found, data, diagnosis=diagnosis)
    plots = {path.name for path in (tmp_path / "plots").iterdir()}
    there = sum(curve.objects > 0 for curve in evaluation.curves)
    assert {"errors.png", "classes.png", f"class_curves_{-(-there // 10)}.png"} <= plots
    assert ("confusion.png" in plots) == (classes == 3)
    text = (tmp_path / "report.html").read_text()
    assert "<td>localisation</td>" in text
    assert "taken for background" in text
    assert f"at least {min(diagnosis.thresholds):.2f} to" in text
